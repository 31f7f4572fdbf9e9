//! How each target is spoken to: how one subscribes, publishes, asks for history, and reads an event's id.

use crate::mark::{Mark, now};
use crate::resp;
use clap::ValueEnum;
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Runhub.
    Hub,
    /// Redis itself: XADD, and XREAD BLOCK on a connection each.
    Redis,
    /// The copier of this program.
    Copier,
    /// nginx with nchan.
    Nchan,
    /// benches/compare/fastapi_app.py
    Fastapi,
}

#[derive(Clone)]
pub struct Target {
    pub kind: Kind,
    pub address: SocketAddr,
    /// Where events go that are published by XADD.
    pub xadd: Option<SocketAddr>,
}

impl Target {
    pub fn name(kind: Kind) -> String {
        kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn publish_address(&self) -> SocketAddr {
        self.xadd.unwrap_or(self.address)
    }

    pub fn publishes_to_redis(&self) -> bool {
        self.xadd.is_some()
    }

    /// Whether subscribers and queries speak Redis' protocol.
    pub fn is_redis(&self) -> bool {
        self.kind == Kind::Redis
    }

    /// The request of a subscriber, who has seen what is up to `after`.
    pub fn subscribe(&self, runs: &[String], after: Option<&str>) -> Vec<u8> {
        let path = match (self.kind, runs) {
            (Kind::Redis, [run, ..]) => return Self::xread(run, after.unwrap_or("0")),
            (Kind::Copier | Kind::Nchan, [run, ..]) => format!("/sub/{run}"),
            (_, [run]) => format!("/runs/{run}/events/stream"),
            (_, runs) => format!("/events/stream?runs={}", runs.join(",")),
        };
        let mut headers = "accept: text/event-stream\r\n".to_owned();
        if let Some(id) = after {
            write!(headers, "last-event-id: {id}\r\n").expect("a String takes all");
        }
        self.get(&path, &headers)
    }

    /// The request of a subscriber to Redis; after each answer there is another one.
    pub fn xread(run: &str, after: &str) -> Vec<u8> {
        let (mut request, key) = (Vec::new(), key(run));
        let words = ["XREAD", "BLOCK", "0", "COUNT", "256", "STREAMS", &key, after];
        resp::command(&mut request, &words.map(str::as_bytes));
        request
    }

    /// The request for up to 1,000 events of a run.
    pub fn history(&self, run: &str) -> Vec<u8> {
        if self.is_redis() {
            let (mut request, key) = (Vec::new(), key(run));
            let words = ["XRANGE", &key, "-", "+", "COUNT", "1000"];
            resp::command(&mut request, &words.map(str::as_bytes));
            return request;
        }
        self.get(&format!("/runs/{run}/events?limit=1000"), "accept: application/json\r\n")
    }

    fn get(&self, path: &str, headers: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.address).into_bytes()
    }

    /// Appends what publishes these events of a run; how many answers that gets.
    pub fn publish(
        &self,
        out: &mut Vec<u8>,
        run: &str,
        number: u32,
        events: RangeInclusive<u32>,
    ) -> usize {
        let (count, sent) = (events.clone().count(), now());
        let marks = events.map(|sequence| Mark { run: number, sequence, sent });
        if self.publishes_to_redis() {
            marks.for_each(|mark| xadd(out, run, mark));
            return count;
        }
        match self.kind {
            Kind::Copier => {
                let mut body = Vec::new();
                marks.for_each(|mark| frame(&mut body, mark));
                self.post(out, &format!("/pub/{run}"), &body);
                1
            }
            // It takes one message a request; a batch is as many requests in one go.
            Kind::Nchan => {
                for mark in marks {
                    let mut body = Vec::new();
                    event(&mut body, mark);
                    self.post(out, &format!("/pub/{run}"), &body);
                }
                count
            }
            Kind::Hub | Kind::Fastapi | Kind::Redis => {
                let mut body = Vec::new();
                for mark in marks {
                    body.push(if body.is_empty() { b'[' } else { b',' });
                    event(&mut body, mark);
                }
                body.push(b']');
                let body = if count == 1 { &body[1..body.len() - 1] } else { &body[..] };
                self.post(out, &format!("/runs/{run}/events"), body);
                1
            }
        }
    }

    fn post(&self, out: &mut Vec<u8>, path: &str, body: &[u8]) {
        let (host, length) = (self.address, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }

    /// The id of the event whose data comes right behind these bytes of a subscriber's stream.
    pub fn id<'a>(&self, before: &'a [u8]) -> Option<&'a str> {
        if self.is_redis() {
            return resp::last_id(before);
        }
        let line = &before[memchr::memmem::rfind(before, b"\nid: ")? + 5..];
        std::str::from_utf8(line).ok()?.lines().next()
    }
}

/// The key of a run's stream.
fn key(run: &str) -> String {
    format!("run:{run}:events")
}

fn event(out: &mut Vec<u8>, mark: Mark) {
    out.extend_from_slice(br#"{"type":"llm.stream","data":"#);
    mark.write_data(out);
    out.push(b'}');
}

/// A frame as a subscriber is to get it.
fn frame(out: &mut Vec<u8>, mark: Mark) {
    out.extend_from_slice(format!("id: {}\nevent: llm.stream\ndata: ", mark.sequence).as_bytes());
    event(out, mark);
    out.extend_from_slice(b"\n\n");
}

/// An entry as any foreign program writes it.
fn xadd(out: &mut Vec<u8>, run: &str, mark: Mark) {
    let (key, timestamp) = (key(run), format!("{:.3}", jiff::Timestamp::now()));
    let (sequence, mut data) = (mark.sequence.to_string(), Vec::new());
    mark.write_data(&mut data);
    let texts = [
        ["XADD", &key],
        ["*", "timestamp"],
        [&timestamp, "sequence"],
        [&sequence, "source_agent_id"],
        ["", "source_agent_type"],
        ["", "source_agent_name"],
        ["", "source_team_name"],
        ["", "event_category"],
        ["llm", "event_action"],
        ["stream", "data"],
    ];
    let mut words: Vec<&[u8]> = texts.iter().flatten().map(|text| text.as_bytes()).collect();
    words.push(&data);
    resp::command(out, &words);
}
