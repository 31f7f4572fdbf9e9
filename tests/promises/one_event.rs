//! The same `event_id` is one event, whoever sends it, through whichever hub, however often.

use crate::common::{Hub, Setup, on_both_stores};
use serde_json::{Value, json};
use std::collections::HashSet;

on_both_stores!(sixteen_publishers_with_one_id);

fn publish_at_once(hubs: &[&Hub]) {
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..16)
            .map(|n| {
                let hub = hubs[n % hubs.len()];
                scope.spawn(move || {
                    let answer = hub.post(
                        "/runs/r/events",
                        json!({ "type": "a.b", "event_id": "k" }).to_string(),
                    );
                    (answer.status, answer.json()["events"][0].clone())
                })
            })
            .collect();
        publishers.into_iter().map(|p| p.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 15);
    let places: HashSet<String> = answers.iter().map(|(_, place)| place.to_string()).collect();
    assert_eq!(places.len(), 1);
    assert_eq!(hubs[0].history("r").len(), 1);
}

fn sixteen_publishers_with_one_id(setup: Setup) {
    publish_at_once(&[&setup.hub()]);
}

#[test]
fn sixteen_publishers_through_two_hubs() {
    let setup = Setup::redis();
    let first = setup.hub();
    let setup = setup.with_another_folder();
    let second = setup.hub();
    publish_at_once(&[&first, &second]);
    // A reader on one hub sees what is published through the other.
    let mut stream = second.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(1), [1]);
    first.publish_numbers("r", 2, 2);
    assert_eq!(stream.sequences(2), [2, 3]);
}

#[test]
fn the_window_ends() {
    let setup = Setup::redis().set("PUBLISH__DEDUP_WINDOW", "1s");
    let hub = setup.hub();
    let body = json!({ "type": "a.b", "event_id": "k" });
    hub.publish("r", &body);
    crate::common::until("the id stands for a new event", || {
        (hub.post("/runs/r/events", body.to_string()).status == 201).then_some(())
    });
    assert_eq!(hub.history("r").len(), 2);
}
