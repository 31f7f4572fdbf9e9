//! The disk under the embedded store fills up, fails and stalls: what is published goes to the spool on
//! another file, and from there to the store when it is well again.

use super::{event, holds_all};
use crate::common::{Hub, Setup, until};
use std::time::{Duration, Instant};

fn setup() -> Setup {
    Setup::embedded().set("PUBLISH__TIMEOUT", "1s")
}

/// Publishes an event; true if it was stored, false if it was spooled.
fn publish(hub: &Hub, number: u64) -> bool {
    let answer = hub.post("/runs/r/events", event(number).to_string());
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
    answer.status == 201
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
    assert!(publish(&hub, spooled + 6));
    assert_eq!(stream.sequences(usize::try_from(spooled).unwrap() + 6).len() as u64, spooled + 6);
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

/// A hub whose database's journal meets this at some of its syncs.
fn with_bad_journal(injection: &str) -> (Setup, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let journal = format!("{path}/store/0.jnl");
    let setup = setup().set("DATA_DIR", &path);
    (setup.with_bad_disk(&["trace=fdatasync", injection], &journal), folder)
}

#[test]
fn after_a_sync_that_failed_the_store_is_opened_again_and_not_believed() {
    let (setup, _folder) = with_bad_journal("inject=fdatasync:error=EIO:when=4");
    let hub = setup.hub();
    for n in 1..=8 {
        publish(&hub, n);
    }
    let log = hub.log();
    assert!(log.contains("the embedded store failed and is reopened"), "{log}");
    holds_all(&hub, 8);
    assert!(hub.log().contains("the embedded store is open again"), "{}", hub.log());
    assert!(publish(&hub, 9));
    holds_all(&hub, 9);
}

#[test]
fn a_disk_that_stalls_holds_up_no_publisher() {
    let (setup, _folder) = with_bad_journal("inject=fdatasync:delay_enter=4000000:when=4..5");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let mut slowest = Duration::ZERO;
    let mut spooled = 0;
    for n in 1..=12 {
        let began = Instant::now();
        spooled += u64::from(!publish(&hub, n));
        slowest = slowest.max(began.elapsed());
    }
    assert!(spooled > 0, "the stall was noticed");
    assert!(slowest < Duration::from_secs(4), "a publish waited {slowest:?}");
    holds_all(&hub, 12);
    assert_eq!(stream.sequences(12), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_hub_that_dies_at_any_sync_of_its_store_keeps_what_it_answered() {
    for when in 2..=7 {
        let (setup, _folder) =
            with_bad_journal(&format!("inject=fdatasync:signal=SIGKILL:when={when}"));
        let hub = setup.hub_unready();
        let mut answered = 0;
        for n in 1..=10 {
            let (port, body) = (hub.port, event(n).to_string());
            let request = crate::common::Request::new("POST", "/runs/r/events").json(body);
            match std::panic::catch_unwind(|| request.send(port)) {
                Ok(answer) if matches!(answer.status, 201 | 202) => answered = n,
                Ok(answer) => panic!("{}", answer.text()),
                Err(_) => break,
            }
        }
        assert!(answered < 10, "it was killed at sync {when}");
        drop(hub);
        let hub = setup.run_by(&[]).hub();
        hub.until_mode("normal");
        let length = hub.get("/runs/r").json()["length"].as_u64().unwrap_or(0);
        assert!(length == answered || length == answered + 1, "sync {when}: {answered}, {length}");
        if length > 0 {
            holds_all(&hub, length);
        }
    }
}
