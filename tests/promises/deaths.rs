//! `201 persisted` survives the death of the hub: it is killed with -9 while it is being published to.

use crate::common::{Request, Setup, on_both_stores};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_both_stores!(what_was_answered_201_is_there_after_kill_9);

const PUBLISHERS: usize = 4;
const DEATHS: usize = 4;

/// Publishes until told to stop; gives the answered places by `event_id`. A publish that was not answered
/// is repeated under its id.
fn publish(port: u16, publisher: usize, stop: &AtomicBool) -> HashMap<String, (String, u64)> {
    let mut answered = HashMap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{publisher}-{number}");
        let body = json!({ "type": "a.b", "event_id": key, "data": number }).to_string();
        let sent = std::panic::catch_unwind(|| {
            Request::new("POST", &format!("/runs/r{}/events", publisher % 2)).json(body).send(port)
        });
        match sent {
            Ok(answer) if matches!(answer.status, 200 | 201) => {
                let event = &answer.json()["events"][0];
                let place =
                    (event["id"].as_str().unwrap().to_owned(), event["sequence"].as_u64().unwrap());
                answered.insert(key, place);
                number += 1;
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            // The hub died or is not up again yet.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    answered
}

fn what_was_answered_201_is_there_after_kill_9(setup: Setup) {
    // Publishers run into closed connections by design; their panics are caught and expected.
    let mut hub = setup.hub();
    let port = hub.port;
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|p| {
                scope.spawn({
                    let stop = &stop;
                    move || publish(port, p, stop)
                })
            })
            .collect();
        for death in 0..DEATHS {
            // Some time within the publishing, by seed; nothing is waited for.
            std::thread::sleep(Duration::from_millis(100 + (seed >> (death * 8)) % 256));
            hub.kill();
            hub = setup.hub_at(port);
        }
        stop.store(true, Ordering::Relaxed);
        publishers.into_iter().map(|p| p.join().unwrap()).collect::<Vec<_>>()
    });
    let mut stored: HashMap<String, (String, u64)> = HashMap::new();
    for run in ["r0", "r1"] {
        let history = hub.history(run);
        for (event, sequence) in history.iter().zip(1_u64..) {
            assert_eq!(event["sequence"], sequence, "seed {seed}: sequences have no hole");
            let key = event["event_id"].as_str().unwrap().to_owned();
            let place = (event["id"].as_str().unwrap().to_owned(), sequence);
            assert_eq!(
                stored.insert(key.clone(), place),
                None,
                "seed {seed}: {key} is there twice"
            );
        }
    }
    let total: usize = answered.iter().map(HashMap::len).sum();
    assert!(total > 20, "seed {seed}: only {total} publishes were answered");
    for (key, place) in answered.into_iter().flatten() {
        assert_eq!(
            stored.get(&key),
            Some(&place),
            "seed {seed}: {key} was answered and is not there"
        );
    }
    let _: Value = hub.get("/health/ready").json();
}
