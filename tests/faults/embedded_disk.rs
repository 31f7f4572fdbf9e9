//! The disk under the embedded store fills up, fails and stalls: what is published goes to the spool on
//! another file, and from there to the store when it is well again.

use crate::common::{Hub, Setup, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn event(number: u64) -> Value {
    json!({ "type": "llm.stream", "data": { "n": number } })
}

fn setup() -> Setup {
    Setup::embedded().set("PUBLISH__TIMEOUT", "1s")
}

/// Publishes an event; true if it was stored, false if it was spooled.
fn publish(hub: &Hub, number: u64) -> bool {
    let answer = hub.post("/runs/r/events", event(number).to_string());
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
    answer.status == 201
}

/// All events up to this number are there, once and in order.
fn holds_all(hub: &Hub, last: u64) {
    hub.until_mode("normal");
    until("the spool is empty", || (hub.spooled() == 0).then_some(()));
    let history = hub.history("r");
    let numbers: Vec<_> = history.iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    let sequences: Vec<_> = history.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, numbers);
}

#[test]
fn a_full_disk_sends_events_to_the_spool_until_there_is_room() {
    let setup = setup().with_small_disk("store", 256 << 10);
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    assert!(publish(&hub, 1));
    let filler = hub.path(&setup.data_dir().join("store/filler"));
    let full = fill(&filler);
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut number = 1;
    // What room the database had made for itself is used up first.
    let spooled = until("the store takes no more", || {
        number += 1;
        (!publish(&hub, number)).then_some(number)
    });
    hub.until_mode("degraded");
    for n in spooled + 1..=spooled + 5 {
        assert!(!publish(&hub, n));
    }
    std::fs::remove_file(&filler).unwrap();
    holds_all(&hub, spooled + 5);
    assert_eq!(stream.sequences(usize::try_from(spooled).unwrap() + 5).len() as u64, spooled + 5);
    assert_eq!(stream.modes, ["degraded", "recovered"]);
}

/// Fills a disk up with one file.
fn fill(path: &std::path::Path) -> std::io::Error {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![0; 64 << 10];
    loop {
        if let Err(e) = file.write_all(&block) {
            return e;
        }
    }
}
