//! Real faults: servers killed and frozen, data removed under readers.

mod campaign;
mod cluster;
mod embedded_disk;
mod failover;
mod foreign_writers;
mod network;
mod proxy_itself;
mod redis_away;
mod redis_limits;
mod spool;
mod under_readers;

use crate::common::{Hub, Stream, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// An event with a number in its data.
fn event(number: u64) -> Value {
    json!({ "type": "llm.stream", "data": { "n": number } })
}

/// An event with a number in its data, whose publisher chose its `event_id`.
fn keyed(key: &str, number: u64) -> Value {
    json!({ "type": "a.b", "event_id": key, "data": { "n": number } })
}

/// The numbers of a run's events, in order, each of which must have its place.
fn numbers(hub: &Hub, run: &str) -> Vec<u64> {
    let history = hub.history(run);
    let sequences: Vec<_> = history.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=history.len() as u64).collect::<Vec<_>>());
    history.iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect()
}

/// Publishes an event to run `r` and expects it to be spooled, soon after a publish timeout of 1 s.
#[track_caller]
fn spools_in_time(hub: &Hub, number: u64) {
    let began = Instant::now();
    hub.publish_spooled("r", &event(number));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "a publish waited {took:?}");
}

/// Publishes event after event to run `r` until they are stored again, and says the last one's number.
fn publishes_until_stored(hub: &Hub, first: u64) -> u64 {
    let mut number = first;
    until("events are stored again", || {
        let answer = hub.post("/runs/r/events", event(number).to_string());
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
        number += 1;
        (answer.status == 201).then_some(number - 1)
    })
}

/// A server has taken over that has only the first three events of run `r`: its reader is told, and gets those and what
/// comes.
#[track_caller]
fn goes_on_behind_the_third(hub: &Hub, stream: &mut Stream) {
    let (name, gap) = stream.control();
    assert_eq!((name.as_str(), &gap["reason"]), ("gap", &json!("reset")), "{gap}");
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    hub.until_mode("normal");
    hub.publish_numbers("r", 6, 1);
    assert_eq!(stream.sequences(1), [4]);
    assert_eq!(numbers(hub, "r"), [1, 2, 3, 6]);
}

/// Waits until all is well and nothing is spooled any more.
fn until_drained(hub: &Hub) {
    hub.until_mode("normal");
    until("the spool is empty", || (hub.spooled() == 0).then_some(()));
}

/// Waits until all is well; run `r` then has all events up to this number, once and in order.
#[track_caller]
fn holds_all(hub: &Hub, last: u64) {
    until_drained(hub);
    assert_eq!(numbers(hub, "r"), (1..=last).collect::<Vec<_>>());
}
