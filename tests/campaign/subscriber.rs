//! A subscriber: follows one run, strictly, and comes back behind the last id it got whenever it loses its
//! stream; sometimes it goes away by itself.

use super::content::seen;
use super::shared::{Shared, words_of};
use crate::common::{Frame, Request, Stream};
use crate::history::{EventId, What};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it looks whether it is over.
const GLANCE: Duration = Duration::from_millis(100);
/// One frame in so many it takes for its last.
const FICKLE: f64 = 1.0 / 400.0;

/// Follows until told to stop.
pub fn follow(shared: &Shared, run: usize, number: usize, seed: u64) {
    let name = format!("s{number}");
    let random = StdRng::seed_from_u64(seed);
    let run = shared.runs[run].clone();
    let mut subscriber = Subscriber { shared, name, run, last: None, random };
    while !subscriber.is_over() {
        // The strict reader panics at what is no stream; that the connection is lost is nothing odd.
        match catch_unwind(AssertUnwindSafe(|| subscriber.read())) {
            Ok(_) => {}
            Err(panic) => {
                let words = words_of(&*panic);
                shared.broken(format!("{} on {}: {words}", subscriber.name, subscriber.run));
            }
        }
        std::thread::sleep(GLANCE / 4);
    }
}

struct Subscriber<'a> {
    shared: &'a Shared,
    name: String,
    run: String,
    last: Option<EventId>,
    random: StdRng,
}

impl Subscriber<'_> {
    fn is_over(&self) -> bool {
        self.shared.stop_reading.load(Ordering::Acquire)
    }

    /// Opens a stream and reads it to its end.
    fn read(&mut self) -> std::io::Result<()> {
        let path = format!("/runs/{}/events/stream", self.run);
        let mut request = Request::new("GET", &path);
        if let Some(last) = self.last {
            request = request.header("last-event-id", &last.to_string());
        }
        // It may come back to another hub.
        let port = self.shared.port_of(self.random.random_range(0..3));
        let stream = Stream::try_of(request.try_open(port)?)?;
        // 503 is what a hub that stops may say; anything else is no answer to this request.
        if stream.head.status != 200 {
            assert_eq!(stream.head.status, 503, "{:?}", stream.head);
            return Ok(());
        }
        let (subscriber, run) = (self.name.clone(), self.run.clone());
        self.shared.record(What::Connected { subscriber, run, last: self.last });
        let why = self.read_frames(stream);
        let (subscriber, run) = (self.name.clone(), self.run.clone());
        self.shared.record(What::Disconnected { subscriber, run, last: self.last, why });
        Ok(())
    }

    /// Reads until the stream is over; says why it is.
    fn read_frames(&mut self, mut stream: Stream) -> String {
        let mut why = "no word of why".to_owned();
        while !self.is_over() {
            match stream.try_next_within(GLANCE) {
                Ok(None | Some(Frame::Comment(_) | Frame::Retry(_))) => {}
                Ok(Some(Frame::Event { data, .. })) => self.take(&data),
                Ok(Some(Frame::Control { name, data })) if name == "close" => {
                    why = format!("close: {}", data["reason"]);
                }
                Ok(Some(Frame::Control { name, data })) => self.hear(name, &data),
                Ok(Some(Frame::End)) => return why,
                Err(e) => return e.to_string(),
            }
            if self.random.random_bool(FICKLE) {
                return "on purpose".to_owned();
            }
        }
        "all is over".to_owned()
    }

    fn take(&mut self, event: &Value) {
        let (key, place, content) = match seen(event) {
            Ok(seen) => seen,
            Err(wrong) => return self.shared.broken(format!("{} got {wrong}", self.name)),
        };
        let (subscriber, run) = (self.name.clone(), self.run.clone());
        self.last = Some(place.id);
        self.shared.record(What::Received { subscriber, run, key, place, content });
        self.shared.tails.lock().insert((self.name.clone(), self.run.clone()), place.id);
    }

    fn hear(&self, name: String, data: &Value) {
        let (subscriber, run) = (self.name.clone(), self.run.clone());
        let id = |key: &str| data[key].as_str().and_then(|id| id.parse().ok());
        match name.as_str() {
            "gap" => self.shared.record(What::Gap {
                subscriber,
                run,
                reason: data["reason"].as_str().unwrap_or_default().to_owned(),
                requested: id("requested"),
                oldest: id("oldest"),
                missed: data["missed"].as_u64(),
            }),
            "degraded" | "recovered" => self.shared.record(What::Mode { subscriber, run, name }),
            _ => self.shared.broken(format!("{subscriber} got a {name} frame: {data}")),
        }
    }
}
