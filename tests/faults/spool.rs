//! The spool: what was answered `202 spooled` survives the death of the hub and of the store, and reaches
//! the store once, in order, before whatever came later.

use super::{event, keyed, numbers, until_drained};
use crate::common::{Request, Setup, until};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A Redis that keeps what it acknowledged when it is killed.
fn lasting() -> Setup {
    Setup::redis().set("PUBLISH__TIMEOUT", "1s")
}

fn segments(setup: &Setup) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(setup.data_dir().join("spool")).unwrap();
    let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    files.sort();
    files
}

/// Makes Redis refuse every write, or take them again.
fn refuse_writes(setup: &Setup, refuse: bool) {
    let replicas = if refuse { "1" } else { "0" };
    let () = setup.redis_server().command(&["CONFIG", "SET", "min-replicas-to-write", replicas]);
}

#[test]
fn what_was_spooled_outlives_the_hub_and_the_store_and_comes_first() {
    let mut setup = lasting();
    let mut hub = setup.hub();
    hub.publish("r", &event(1));
    setup.redis.as_mut().unwrap().kill();
    let batch = |numbers: std::ops::RangeInclusive<u64>| numbers.map(event).collect::<Vec<_>>();
    hub.publish_spooled("r", &event(2));
    hub.publish_spooled("r", &batch(3..=40).into());
    hub.publish_spooled("other", &event(1));
    hub.kill();

    let mut hub = setup.hub();
    hub.until_mode("degraded");
    let ready = hub.get("/health/ready").json();
    assert_eq!(ready["spool"]["events"], 40, "{ready}");
    assert!(ready["spool"]["oldest"].is_string() && ready["spool"]["bytes"].as_u64() > Some(0));
    hub.publish_spooled("r", &batch(41..=42).into());
    hub.signal("-TERM");
    assert_eq!(hub.wait(Duration::from_secs(11)).code(), Some(0));

    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    setup.redis.as_mut().unwrap().start_again();
    until_drained(&hub);
    hub.publish("r", &event(43));
    assert_eq!(numbers(&hub, "r"), (1..=43).collect::<Vec<_>>());
    assert_eq!(numbers(&hub, "other"), [1]);
    assert_eq!(stream.sequences(43), (1..=43).collect::<Vec<_>>());
    assert!(segments(&setup).is_empty(), "drained segments are removed");
}

#[test]
fn what_was_accepted_into_memory_is_spooled_when_the_hub_is_stopped() {
    let mut setup = lasting();
    let mut hub = setup.hub();
    hub.publish("r", &event(1));
    setup.redis_server().freeze();
    // Redis does not answer, and nobody knows yet.
    for n in 2..=4 {
        let answer = hub.post("/runs/r/events?ack=accepted", event(n).to_string());
        assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("accepted")));
    }
    hub.signal("-TERM");
    assert_eq!(hub.wait(Duration::from_secs(11)).code(), Some(0));
    setup.redis_server().thaw();
    setup.redis.as_mut().unwrap().kill();
    setup.redis.as_mut().unwrap().start_again();
    let hub = setup.hub();
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4]);
}

/// Publishes numbered events one after the other, each until it is answered, under an `event_id` each, or
/// each once without; gives the numbers that were answered.
fn publish_until(port: u16, run: &str, stop: &AtomicBool) -> Vec<u64> {
    let mut answered = Vec::new();
    for number in 1.. {
        let body =
            json!({ "type": "a.b", "event_id": format!("k{number}"), "data": { "n": number } });
        loop {
            if stop.load(Ordering::Acquire) {
                return answered;
            }
            let request =
                Request::new("POST", &format!("/runs/{run}/events")).json(body.to_string());
            match std::panic::catch_unwind(|| request.send(port)) {
                Ok(answer) if matches!(answer.status, 200..=202) => break answered.push(number),
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                // The hub died or is not up again yet.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    answered
}

#[test]
fn a_hub_killed_while_it_spools_and_drains_loses_doubles_and_reorders_nothing() {
    let mut setup = lasting();
    let mut hub = setup.hub();
    let (port, seed, stop) = (hub.port, rand::random::<u64>(), AtomicBool::new(false));
    eprintln!("seed {seed}");
    let runs = ["a", "b", "c"];
    let answered: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let stop = &stop;
        let publishers: Vec<_> =
            runs.iter().map(|run| scope.spawn(move || publish_until(port, run, stop))).collect();
        for round in 0..4 {
            // Some time within the load, by seed; nothing is waited for.
            let pause =
                |shift: u32| Duration::from_millis(60 + (seed >> (round * 8 + shift)) % 200);
            std::thread::sleep(pause(0));
            setup.redis.as_mut().unwrap().kill();
            std::thread::sleep(pause(1));
            hub.kill();
            hub = setup.hub_at(port);
            std::thread::sleep(pause(2));
            setup.redis.as_mut().unwrap().start_again();
            hub.until_mode(if round % 2 == 0 { "recovering" } else { "normal" });
            hub.kill();
            hub = setup.hub_at(port);
        }
        stop.store(true, Ordering::Release);
        publishers.into_iter().map(|p| p.join().unwrap()).collect()
    });
    until_drained(&hub);
    for (run, answered) in runs.iter().zip(answered) {
        let stored = numbers(&hub, run);
        let total = answered.len() as u64;
        assert!(total > 20, "seed {seed}: only {total} were answered");
        // The last one may have been on its way when the publisher was stopped.
        let expected: Vec<u64> = (1..=(stored.len() as u64).max(total)).collect();
        assert_eq!(stored, expected, "seed {seed}: run {run}");
        assert!(stored.len() as u64 <= total + 1, "seed {seed}");
    }
}

#[test]
fn one_run_that_redis_cannot_store_stops_no_other() {
    let setup = lasting();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let () = redis.command(&["SET", "run:poison:events", "not a stream"]);
    hub.post("/runs/poison/events", event(1).to_string()).is_problem(503, "STORE_UNAVAILABLE");
    refuse_writes(&setup, true);
    hub.publish_spooled("r", &event(1));
    hub.publish_spooled("poison", &event(1));
    hub.publish_spooled("poison", &event(2));
    refuse_writes(&setup, false);
    hub.until_mode("normal");
    assert_eq!(numbers(&hub, "r"), [1]);
    assert_eq!(hub.publish("r", &event(2))["events"][0]["sequence"], 2);
    assert_eq!(hub.spooled(), 2, "nothing of it is lost");
    hub.post("/runs/poison/events", event(3).to_string()).is_problem(503, "STORE_UNAVAILABLE");
    hub.post("/runs/poison/events?ack=accepted", event(3).to_string())
        .is_problem(503, "STORE_UNAVAILABLE");
    assert!(hub.log().contains("run poison keeps its events in the spool"), "{}", hub.log());
    let () = redis.command(&["DEL", "run:poison:events"]);
    until_drained(&hub);
    hub.publish("poison", &event(3));
    assert_eq!(numbers(&hub, "poison"), [1, 2, 3]);
}

#[test]
fn large_publishes_of_one_run_hold_up_no_other_that_is_drained() {
    let setup = lasting();
    let hub = setup.hub();
    refuse_writes(&setup, true);
    let large: Vec<Value> = (0..1000).map(event).collect();
    for _ in 0..4 {
        hub.publish_spooled("large", &large.clone().into());
    }
    let small: Vec<String> = (0..8).map(|n| format!("small-{n}")).collect();
    small.iter().for_each(|run| drop(hub.publish_spooled(run, &event(1))));
    refuse_writes(&setup, false);
    until_drained(&hub);
    let last = |run: &str| {
        let id = hub.get(&format!("/runs/{run}")).json()["last_id"].as_str().unwrap().to_owned();
        let (ms, n) = id.split_once('-').unwrap();
        (ms.parse::<u64>().unwrap(), n.parse::<u64>().unwrap())
    };
    assert!(small.iter().all(|run| last(run).0 <= last("large").0));
    let order: Vec<_> =
        hub.history("large").iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(order, (0..4).flat_map(|_| 0..1000).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_does_not_give_one_runs_events_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let setup = lasting().set("DATA_DIR", &path);
    let mut hub = setup.hub();
    refuse_writes(&setup, true);
    hub.publish_spooled("unread", &event(1));
    hub.kill();
    // The next life of the hub begins another segment.
    let segment = format!("{path}/spool/0000000001.spool");
    let setup = setup.with_bad_disk(&["trace=pread64", "inject=pread64:error=EIO"], &segment);
    let mut hub = setup.hub();
    hub.publish_spooled("r", &event(1));
    refuse_writes(&setup, false);
    until("the other run is drained", || (hub.spooled() == 1).then_some(()));
    assert_eq!(numbers(&hub, "r"), [1]);
    assert!(hub.log().contains("run unread keeps its events in the spool, which cannot be read"));
    hub.publish_spooled("unread", &event(2));
    hub.kill();
    let setup = setup.run_by(&[]);
    let hub = setup.hub();
    until_drained(&hub);
    assert_eq!(numbers(&hub, "unread"), [1, 2]);
}

#[test]
fn a_run_that_was_spooled_and_deleted_does_not_come_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let setup = lasting().set("DATA_DIR", &path).set("PUBLISH__TIMEOUT", "20s");
    // That the run is drained is known to the disk when the segment is gone, two seconds later.
    let segment = format!("{path}/spool/0000000001.spool");
    let late = ["trace=unlink", "inject=unlink:delay_enter=2000000"];
    let setup = setup.with_bad_disk(&late, &segment);
    let mut hub = setup.hub();
    refuse_writes(&setup, true);
    hub.until_mode("degraded");
    hub.publish_spooled("r", &event(1));
    refuse_writes(&setup, false);
    until_drained(&hub);
    let deleted = hub.send(Request::new("DELETE", "/runs/r"));
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    hub.kill();
    let setup = setup.run_by(&[]);
    let hub = setup.hub();
    until_drained(&hub);
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
}

#[test]
fn a_full_spool_says_so_and_keeps_what_it_took() {
    let setup = lasting().set("SPOOL__MAX_BYTES", "64KiB");
    let hub = setup.hub();
    hub.publish("r", &event(1));
    refuse_writes(&setup, true);
    let large = |n: u64| json!({ "type": "a.b", "data": { "n": n, "pad": "x".repeat(5000) } });
    let mut taken = 1;
    let refused = loop {
        let answer = hub.post("/runs/r/events", large(taken + 1).to_string());
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "64 KiB hold no hundred events of 5 KB");
    };
    refused.is_problem(503, "SPOOL_FULL");
    assert!(refused.header("retry-after").is_some());
    assert!(taken > 5);
    let ready = hub.get("/health/ready").json();
    assert!(ready["spool"]["bytes"].as_u64().unwrap() <= 64 << 10, "{ready}");
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(hub.publish("r", &event(taken + 1))["events"][0]["sequence"], taken + 1);
    assert_eq!(numbers(&hub, "r"), (1..=taken + 1).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_says_so_and_keeps_what_it_took() {
    let setup = lasting().with_small_disk("spool", 256);
    let hub = setup.hub();
    hub.publish("r", &event(1));
    refuse_writes(&setup, true);
    hub.publish_spooled("r", &event(2));
    let filler = hub.path(&setup.data_dir().join("spool/filler"));
    let full = std::fs::write(&filler, vec![0; 1 << 20]);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let large = json!({ "type": "a.b", "data": "x".repeat(20_000) });
    hub.post("/runs/r/events", large.to_string()).is_problem(503, "SPOOL_FULL");
    assert!(hub.get("/health/ready").json()["spool"]["trouble"].is_string());
    // Room again: it goes on, and what was refused is nowhere.
    std::fs::remove_file(&filler).unwrap();
    hub.publish_spooled("r", &event(3));
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3]);
}

#[test]
fn a_disk_that_fails_to_sync_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let setup = lasting().set("DATA_DIR", &path);
    // The first two syncs of the first segment fail; a failed sync is never tried again on a file.
    let segment = format!("{path}/spool/0000000001.spool");
    let setup =
        setup.with_bad_disk(&["trace=fdatasync", "inject=fdatasync:error=EIO:when=2"], &segment);
    let hub = setup.hub();
    refuse_writes(&setup, true);
    for n in 1..=4 {
        hub.publish_spooled("r", &event(n));
    }
    assert!(hub.log().contains("a segment of the spool failed"), "{}", hub.log());
    assert!(folder.path().join("spool/0000000002.spool").exists());
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4]);
}

#[test]
fn a_hub_that_dies_at_any_sync_of_its_spool_keeps_what_it_answered() {
    for when in 1..=6 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let setup = lasting().set("DATA_DIR", &path);
        let kill = format!("inject=fdatasync:signal=SIGKILL:when={when}");
        let segment = format!("{path}/spool/0000000001.spool");
        let setup = setup.with_bad_disk(&["trace=fdatasync", &kill], &segment);
        let hub = setup.hub();
        refuse_writes(&setup, true);
        let mut answered = 0;
        for n in 1..=8 {
            let (port, request) =
                (hub.port, Request::new("POST", "/runs/r/events").json(event(n).to_string()));
            match std::panic::catch_unwind(|| request.send(port)) {
                Ok(answer) if answer.status == 202 => answered = n,
                Ok(answer) => panic!("{}", answer.text()),
                Err(_) => break,
            }
        }
        assert!(answered < 8, "it was killed at sync {when}");
        drop(hub);
        let setup = setup.run_by(&[]);
        let hub = setup.hub();
        refuse_writes(&setup, false);
        until_drained(&hub);
        let stored = numbers(&hub, "r");
        assert!(
            stored.len() as u64 == answered || stored.len() as u64 == answered + 1,
            "sync {when}: {answered} were answered, {stored:?} are stored"
        );
    }
}

#[test]
fn a_damaged_spool_never_stops_the_start_and_costs_itself_alone() {
    let mut setup = lasting();
    let mut hub = setup.hub();
    setup.redis.as_mut().unwrap().kill();
    for n in 1..=9 {
        hub.publish_spooled("r", &event(n));
    }
    hub.kill();
    let segment = segments(&setup).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let (middle, end) = (bytes.len() / 2, bytes.len());
    bytes[middle] ^= 4;
    // The last record as if the hub had died while it wrote it.
    bytes.truncate(end - 3);
    std::fs::write(&segment, &bytes).unwrap();
    setup.redis.as_mut().unwrap().start_again();
    let hub = setup.hub();
    until_drained(&hub);
    let stored = numbers(&hub, "r");
    assert_eq!(stored.len(), 7, "{stored:?}");
    assert!(stored.is_sorted() && stored.ends_with(&[8]) && stored.starts_with(&[1]));
    let log = hub.log();
    assert!(log.contains("bytes are damaged") && log.contains("they are cut off"), "{log}");
    assert!(segment.with_extension("damaged").exists(), "whoever wants to can look at it");
}

#[test]
fn an_event_id_is_one_event_before_in_and_behind_the_spool() {
    let setup = lasting();
    let hub = setup.hub();
    hub.publish("r", &keyed("before", 1));
    let made = hub.publish("r", &event(2))["events"][0]["event_id"].clone();
    let again =
        |key: &Value, n: u64| json!({ "type": "llm.stream", "event_id": key, "data": { "n": n } });
    refuse_writes(&setup, true);
    hub.publish_spooled("r", &keyed("in", 3));
    let spooled = hub.publish_spooled("r", &event(4))["events"][0]["event_id"].clone();
    // Nobody can be asked whether these were stored; each is one event all the same.
    hub.publish_spooled("r", &keyed("before", 1));
    hub.publish_spooled("r", &json!([keyed("in", 3), event(5)]));
    hub.publish_spooled("r", &again(&made, 2));
    hub.publish_spooled("r", &again(&spooled, 4));
    // Its publisher was answered, so the others of its batch must not suffer for it.
    hub.publish_spooled("r", &json!([event(6), keyed("in", 99)]));
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4, 5, 6]);
    for (body, sequence) in [
        (keyed("in", 3), 3),
        (again(&spooled, 4), 4),
        (again(&made, 2), 2),
        (keyed("before", 1), 1),
    ] {
        let answer = hub.post("/runs/r/events", body.to_string());
        assert_eq!(
            (answer.status, &answer.json()["events"][0]["sequence"]),
            (200, &json!(sequence))
        );
    }
    hub.post("/runs/r/events", keyed("in", 7).to_string()).is_problem(422, "EVENT_ID_REUSED");
}

#[test]
fn an_event_id_is_one_event_although_the_store_forgets_it_while_its_repetition_is_spooled() {
    let setup = lasting().set("PUBLISH__DEDUP_WINDOW", "4s");
    let hub = setup.hub();
    hub.publish("r", &json!([keyed("k", 1), keyed("l", 2), event(3)]));
    refuse_writes(&setup, true);
    hub.publish_spooled("r", &json!([keyed("k", 1), event(4)]));
    // Of this one the content is another; its publisher was answered.
    hub.publish_spooled("r", &keyed("l", 99));
    until("the store has forgotten the ids", || {
        let index: Vec<String> = setup.redis_server().command(&["KEYS", "run:r:event_ids:*"]);
        index.is_empty().then_some(())
    });
    // This one is new: its like was stored longer ago than the window.
    hub.publish_spooled("r", &keyed("k", 5));
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4, 5]);
    assert!(hub.log().contains("1 accepted events of run r were left out"), "{}", hub.log());
}

#[test]
fn a_repetition_that_a_frozen_redis_gets_to_after_the_window_is_none_the_less_one() {
    let setup = lasting().set("PUBLISH__DEDUP_WINDOW", "4s");
    let hub = setup.hub();
    let first = Instant::now();
    hub.publish("r", &keyed("k", 1));
    setup.redis_server().freeze();
    // Redis has it in its hands when its publisher is told that it waits.
    hub.publish_spooled("r", &json!([keyed("k", 1), event(2)]));
    until("the window has passed", || (first.elapsed().as_millis() > 4500).then_some(()));
    setup.redis_server().thaw();
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2]);
}

#[test]
fn an_event_id_that_is_free_again_by_its_publish_stands_for_two_events_that_wait_together() {
    let setup = lasting().set("PUBLISH__DEDUP_WINDOW", "2s");
    let hub = setup.hub();
    hub.publish("r", &event(1));
    refuse_writes(&setup, true);
    let first = Instant::now();
    hub.publish_spooled("r", &keyed("k", 2));
    until("the window has passed", || (first.elapsed().as_millis() > 2500).then_some(()));
    hub.publish_spooled("r", &keyed("k", 3));
    hub.publish_spooled("r", &keyed("k", 3));
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3]);
}

#[test]
fn a_run_is_not_deleted_while_its_events_wait() {
    let setup = lasting();
    let hub = setup.hub();
    hub.publish("r", &event(1));
    refuse_writes(&setup, true);
    hub.publish_spooled("r", &event(2));
    let delete = || hub.send(Request::new("DELETE", "/runs/r"));
    delete().is_problem(503, "STORE_UNAVAILABLE");
    refuse_writes(&setup, false);
    until_drained(&hub);
    assert_eq!(delete().status, 204);
    hub.get("/runs/r/events").is_problem(404, "RUN_NOT_FOUND");
}

#[test]
fn live_runs_do_not_wait_for_the_one_that_is_drained() {
    let setup = lasting();
    let hub = setup.hub();
    refuse_writes(&setup, true);
    let batch: Vec<_> = (1..=1000).map(event).collect();
    let answer = hub.post("/runs/r/events", Value::from(batch.clone()).to_string());
    assert_eq!(answer.status, 202);
    for _ in 0..19 {
        hub.publish_spooled("r", &Value::from(batch.clone()));
    }
    refuse_writes(&setup, false);
    // From the moment the store is back, others are stored and not spooled, whatever waits.
    hub.until_mode("recovering");
    let mut stored = 0;
    while hub.spooled() > 0 {
        hub.publish("live", &event(stored + 1));
        stored += 1;
    }
    assert!(stored > 0, "twenty thousand events are not drained between two requests");
    until_drained(&hub);
    assert_eq!(numbers(&hub, "live").len() as u64, stored);
    let ids: HashSet<String> =
        hub.history("r").iter().map(|e| e["event_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() >= 10_000, "as many as are kept: {}", ids.len());
    assert_eq!(hub.get("/runs/r").json()["last_sequence"], 20_000);
}

#[test]
fn two_hubs_cannot_have_one_spool() {
    let setup = lasting();
    let first = setup.hub();
    let second = setup.command().args(["serve", "--bind", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("in use by another hub") && told.contains("--data-dir"), "{told}");
    first.publish("r", &event(1));
}
