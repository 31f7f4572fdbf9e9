//! A publisher: one publish after the other, each repeated until the hub has taken it.

use super::content::make;
use super::shared::{Leaver, Shared};
use super::wire::{Lost, Wire};
use crate::common::{Answer, Request};
use crate::history::{Outcome, Place, Sent, What};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, from_value};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an answer is waited for. Longer than any answer may take, so that one that is late is seen as
/// late and not as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause before an attempt is repeated.
const PAUSE: Duration = Duration::from_millis(100);
/// The pauses between publishes, in ms.
const PACE: std::ops::Range<u64> = 10..50;

/// Publishes until told to stop.
pub fn publish(shared: &Shared, number: usize, seed: u64) {
    let _leaver = Leaver(shared);
    let random = StdRng::seed_from_u64(seed);
    let (name, wire) = (format!("p{number}"), Wire::to(shared.port_of(number), PATIENCE));
    let mut publisher = Publisher { shared, name, wire, random };
    while !shared.stop_publishing.load(Ordering::Acquire) {
        let op = publisher.draw();
        publisher.bring(&op);
        std::thread::sleep(Duration::from_millis(publisher.random.random_range(PACE)));
    }
}

struct Publisher<'a> {
    shared: &'a Shared,
    name: String,
    wire: Wire,
    random: StdRng,
}

/// A publish, as often as it is sent.
struct Op {
    number: u64,
    run: String,
    request: Request,
    sent: Vec<Sent>,
    /// Its events have ids of their own, so that it may be repeated.
    chosen: bool,
}

/// What follows an attempt.
enum Next {
    Done,
    Again,
}

impl Publisher<'_> {
    fn draw(&mut self) -> Op {
        let number = self.shared.next_op();
        let random = &mut self.random;
        let chosen = random.random_bool(0.8);
        let count = if random.random_bool(0.6) { 1 } else { random.random_range(2..6) };
        let (events, sent): (Vec<Value>, Vec<Sent>) =
            (0..count).map(|n| make(format!("{}-{number}-{n}", self.name), chosen, random)).unzip();
        let run = self.shared.runs[random.random_range(0..self.shared.runs.len())].clone();
        let ack = if random.random_bool(0.05) { "?ack=accepted" } else { "" };
        let body = match &events[..] {
            [event] => event.to_string(),
            events => Value::from(events).to_string(),
        };
        let path = format!("/runs/{run}/events{ack}");
        let request = Request::new("POST", &path).json(body);
        Op { number, run, request, sent, chosen }
    }

    /// Sends a publish until it is taken, or cannot be repeated.
    fn bring(&mut self, op: &Op) {
        for attempt in 1.. {
            self.shared.record(What::Invoked {
                publisher: self.name.clone(),
                run: op.run.clone(),
                op: op.number,
                attempt,
                events: op.sent.clone(),
            });
            let answer = self.wire.exchange(&op.request);
            if matches!(self.heard(op, attempt, answer), Next::Done)
                || self.shared.give_up.load(Ordering::Acquire)
            {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn heard(&mut self, op: &Op, attempt: u32, answer: Result<Answer, Lost>) -> Next {
        let number = op.number;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Lost::Unreached) => {
                self.shared.record(What::Unreached { op: number, attempt });
                return Next::Again;
            }
            Err(Lost::Unknown(why)) => {
                self.shared.record(What::Unknown { op: number, attempt, why });
                // Some are left as they are: they may be there once or not at all.
                return self.again_if(op.chosen, 0.9);
            }
        };
        let outcome = outcome(&answer, op).unwrap_or_else(|wrong| {
            let text = String::from_utf8_lossy(&answer.body);
            self.shared.broken(format!(
                "publish {number} was answered {}, {wrong}: {text}",
                answer.status
            ));
            Outcome::Refused { code: answer.status.to_string() }
        });
        let next = match &outcome {
            Outcome::Refused { code } if code == "STORE_UNAVAILABLE" => {
                self.again_if(op.chosen, 0.95)
            }
            // Of what was surely not stored, half is never sent again, and must never be seen.
            Outcome::Refused { code } if code == "SPOOL_FULL" => self.again_if(true, 0.5),
            _ => Next::Done,
        };
        self.shared.record(What::Answered { op: number, attempt, outcome });
        next
    }

    fn again_if(&mut self, may: bool, probability: f64) -> Next {
        match may && self.random.random_bool(probability) {
            true => Next::Again,
            false => Next::Done,
        }
    }
}

/// What the answer says; an error where it says what it must not say to such a publish.
fn outcome(answer: &Answer, op: &Op) -> Result<Outcome, String> {
    let body: Value = serde_json::from_slice(&answer.body).map_err(|e| format!("no JSON: {e}"))?;
    if answer.status == 503 {
        let code =
            body["code"].as_str().filter(|c| ["STORE_UNAVAILABLE", "SPOOL_FULL"].contains(c));
        let code = code.ok_or("a code that does not belong here")?.to_owned();
        return Ok(Outcome::Refused { code });
    }
    let rows = body["events"].as_array().filter(|rows| rows.len() == op.sent.len());
    let rows = rows.ok_or("not a row an event")?;
    if body["run_id"] != op.run.as_str() || body["count"] != op.sent.len() {
        return Err("another run or count".to_owned());
    }
    if op.chosen
        && !rows.iter().zip(&op.sent).all(|(row, sent)| row["event_id"] == sent.key.as_str())
    {
        return Err("other event_ids".to_owned());
    }
    let places = || -> Result<Vec<Place>, String> {
        rows.iter().map(|row| from_value(row.clone()).map_err(|e| e.to_string())).collect()
    };
    match (answer.status, body["status"].as_str()) {
        (201, Some("persisted")) => Ok(Outcome::Persisted { places: places()? }),
        (200, Some("persisted")) => Ok(Outcome::Duplicate { places: places()? }),
        (202, Some("spooled")) => Ok(Outcome::Spooled),
        (202, Some("accepted")) => Ok(Outcome::Accepted),
        _ => Err("an answer that does not belong here".to_owned()),
    }
}
