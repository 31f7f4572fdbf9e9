//! The network between the hub and Redis: replies lost, connections half open, reset, slow.

use super::{event, holds_all, keyed};
use crate::common::proxy::Proxy;
use crate::common::{Hub, Setup, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A hub that reaches its Redis through a proxy, and waits long enough for what is to heal.
fn behind_a_proxy() -> (Setup, Proxy) {
    let setup =
        Setup::redis().set("PUBLISH__TIMEOUT", "15s").set("REDIS__COMMAND_TIMEOUT", "500ms");
    let proxy = Proxy::to(setup.redis_server().port);
    let url = format!("redis://127.0.0.1:{}/0", proxy.port);
    (setup.set("REDIS__URL", &url), proxy)
}

fn stored(setup: &Setup) -> u64 {
    setup.redis_server().command(&["XLEN", "run:r:events"])
}

#[test]
fn a_reply_that_is_lost_does_not_double_the_write() {
    let (setup, proxy) = behind_a_proxy();
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 2);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(2), [1, 2]);
    proxy.drop_replies(true);
    std::thread::scope(|scope| {
        // Of the hub's own ids as well as of the publisher's: neither may be stored twice.
        let published = scope.spawn(|| {
            hub.publish("r", &json!([{ "type": "a.b" }, { "type": "a.c", "event_id": "k" }]))
        });
        until("the write has happened", || (stored(&setup) == 4).then_some(()));
        proxy.drop_replies(false);
        let told = published.join().unwrap();
        let sequences: Vec<_> =
            (0..2).map(|i| told["events"][i]["sequence"].as_u64().unwrap()).collect();
        assert_eq!(sequences, [3, 4], "the publisher is told where its events are");
    });
    hub.publish_numbers("r", 5, 1);
    assert_eq!(stream.sequences(3), [3, 4, 5]);
    assert_eq!((stored(&setup), hub.history("r").len()), (5, 5));
}

#[test]
fn a_refusal_whose_reply_is_lost_costs_the_reused_event_not_its_batch() {
    let (setup, proxy) = behind_a_proxy();
    let setup = setup.set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish("r", &keyed("k", 1));
    proxy.drop_replies(true);
    // Redis refuses it, of which nobody hears, and the publisher is told that it will be stored.
    hub.publish_spooled("r", &json!([keyed("k", 9), keyed("other", 2)]));
    hub.until_mode("degraded");
    proxy.drop_replies(false);
    hub.until_mode("normal");
    hub.publish("r", &keyed("last", 3));
    let kept = hub.history("r");
    let kept: Vec<_> = kept.iter().map(|e| (&e["event_id"], &e["data"]["n"])).collect();
    assert_eq!(json!(kept), json!([["k", 1], ["other", 2], ["last", 3]]));
    // Its publisher can be told no more, but operators are.
    assert!(hub.get("/metrics").text().contains("runhub_events_left_out_total 1\n"));
    assert!(hub.log().contains("1 accepted events of run r were left out"), "{}", hub.log());
}

#[test]
fn half_open_connections_are_noticed_and_replaced() {
    let (setup, proxy) = behind_a_proxy();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish_numbers("r", 1, 1);
    assert_eq!(stream.sequences(1), [1]);
    let before = proxy.opened();
    // To dial anew takes a while, and is no reason to be degraded.
    proxy.delay(Duration::from_millis(4));
    proxy.black_hole_existing();
    let began = Instant::now();
    hub.publish_numbers("r", 2, 1);
    assert!(began.elapsed() < Duration::from_secs(3), "noticed after {:?}", began.elapsed());
    assert_eq!(stream.sequences(1), [2]);
    // A reader learns it from its own time limit, as a silent connection says nothing.
    assert!(
        began.elapsed() < Duration::from_millis(3500),
        "the reader noticed after {:?}",
        began.elapsed()
    );
    let opened = proxy.opened() - before;
    assert!(opened <= 4, "{opened} connections were opened for the three that died");
}

#[test]
fn a_slow_store_is_no_reason_to_be_degraded() {
    let (setup, proxy) = behind_a_proxy();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    proxy.delay(Duration::from_millis(200));
    for n in 1..=5 {
        hub.publish_numbers("r", n, 1);
        assert_eq!(hub.get("/health/ready").json()["mode"], "normal");
    }
    assert_eq!(stream.sequences(5), [1, 2, 3, 4, 5]);
    assert!(stream.modes.is_empty());
}

#[test]
fn large_events_get_through_on_a_slow_way() {
    let (setup, proxy) = behind_a_proxy();
    let setup = setup.set("PUBLISH__TIMEOUT", "300ms");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    // The whole publish needs more than twice `redis.command_timeout`, and so do many of its events that are read at
    // a time; one of them does not.
    let one = json!({ "type": "a.b", "data": "x".repeat(400 << 10) });
    let all = Value::from(vec![one; 6]);
    proxy.throttle(Some(2 << 20));
    hub.publish_spooled("r", &all);
    assert_eq!(stream.sequences(6), [1, 2, 3, 4, 5, 6]);
    hub.until_mode("normal");
    let history = hub.history("r");
    let sequences: Vec<_> = history.iter().map(|e| e["sequence"].as_u64()).collect();
    assert_eq!(sequences, (1..=6).map(Some).collect::<Vec<_>>());
    assert_eq!(stored(&setup), 6);
}

#[test]
fn large_events_behind_small_ones_can_be_read_on_a_slow_way() {
    let (setup, proxy) = behind_a_proxy();
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 20);
    // After the small ones many more are asked for at a time; only one of these comes in time.
    let large = json!({ "type": "a.b", "data": "x".repeat(700 << 10) });
    hub.publish("r", &Value::from(vec![large; 4]));
    proxy.throttle(Some(2 << 20));
    let page = hub.get("/runs/r/events");
    assert_eq!((page.status, page.json()["count"].as_u64()), (200, Some(24)));
}

fn publish_until(hub: &Hub, publisher: usize, stop: &AtomicBool) -> Vec<(String, Option<u64>)> {
    let mut answered = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let key = format!("{publisher}-{number}");
        let body =
            json!({ "type": "a.b", "data": [publisher, number], "event_id": key }).to_string();
        let answer = hub.post("/runs/r/events", body);
        assert!(matches!(answer.status, 200..=202), "{}", answer.text());
        // One that was spooled has no place yet.
        answered.push((key, answer.json()["events"][0]["sequence"].as_u64()));
    }
    answered
}

#[test]
fn resets_under_load_lose_double_and_reorder_nothing() {
    let (setup, proxy) = behind_a_proxy();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let stop = AtomicBool::new(false);
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let answered: Vec<Vec<(String, Option<u64>)>> = std::thread::scope(|scope| {
        let (hub, stop) = (&hub, &stop);
        let publishers: Vec<_> =
            (0..4).map(|p| scope.spawn(move || publish_until(hub, p, stop))).collect();
        for round in 0..8 {
            // Some time within the load, by seed; nothing is waited for.
            std::thread::sleep(Duration::from_millis(50 + (seed >> (round * 7)) % 128));
            match (seed >> (round * 5)) % 3 {
                0 => proxy.reset_existing(),
                1 => proxy.black_hole_existing(),
                _ => {
                    proxy.drop_replies(true);
                    std::thread::sleep(Duration::from_millis(30));
                    proxy.drop_replies(false);
                    proxy.reset_existing();
                }
            }
        }
        stop.store(true, Ordering::Release);
        publishers.into_iter().map(|p| p.join().unwrap()).collect()
    });
    // The last fault may have left the connection for reads half open; that is noticed by reading.
    until("reads go through", || (hub.get("/runs/r").status == 200).then_some(()));
    hub.until_mode("normal");
    let history = hub.history("r");
    let total: usize = answered.iter().map(Vec::len).sum();
    assert_eq!(history.len(), total, "seed {seed}: as many as were answered");
    let keys: Vec<&Value> = history.iter().map(|e| &e["event_id"]).collect();
    for (publisher, answered) in answered.iter().enumerate() {
        let mut last = 0;
        for (key, sequence) in answered {
            let found = keys.iter().position(|stored| *stored == key.as_str());
            let place = found.unwrap_or_else(|| panic!("seed {seed}: {key} is lost")) as u64 + 1;
            assert_eq!(sequence.unwrap_or(place), place, "seed {seed}");
            assert!(last < place, "seed {seed}: publisher {publisher}'s order is kept");
            last = place;
        }
    }
    assert_eq!(stream.sequences(total), (1..=total as u64).collect::<Vec<_>>(), "seed {seed}");
}

#[test]
fn connections_are_refused_for_a_while() {
    let (setup, proxy) = behind_a_proxy();
    let setup = setup.set("PUBLISH__TIMEOUT", "300ms");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish_numbers("r", 1, 1);
    assert_eq!(stream.sequences(1), [1]);
    proxy.refuse(true);
    proxy.reset_existing();
    hub.publish_spooled("r", &json!({ "type": "a.b" }));
    hub.until_mode("degraded");
    proxy.refuse(false);
    hub.until_mode("normal");
    assert_eq!(hub.publish_numbers("r", 3, 1)["events"][0]["sequence"], 3);
    assert_eq!(stream.sequences(2), [2, 3]);
}

#[test]
fn a_request_that_is_released_late_changes_nothing() {
    let (setup, proxy) = behind_a_proxy();
    let setup = setup.set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(1), [1]);
    proxy.hold(true);
    hub.publish_spooled("r", &json!([{ "type": "a.b" }, { "type": "a.c", "event_id": "k" }]));
    hub.until_mode("degraded");
    hub.publish_spooled("r", &json!({ "type": "a.d" }));
    // What was held reaches Redis beside what the hub sends again.
    proxy.hold(false);
    hub.until_mode("normal");
    hub.publish_numbers("r", 5, 1);
    assert_eq!(stream.sequences(4), [2, 3, 4, 5]);
    let kinds: Vec<_> = hub.history("r").iter().map(|e| e["event"]["action"].clone()).collect();
    assert_eq!(kinds, ["stream", "b", "c", "d", "stream"]);
    assert_eq!(stored(&setup), 5);
}

#[test]
fn a_link_that_comes_and_goes_makes_no_mode_that_does() {
    let (setup, proxy) = behind_a_proxy();
    let setup = setup.set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let mut modes = vec![json!("normal")];
    let began = Instant::now();
    let mut published = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let up = began.elapsed().as_millis() % 500 < 200;
        proxy.refuse(!up);
        if !up {
            proxy.reset_existing();
        }
        published += 1;
        let answer = hub.post("/runs/r/events", event(published).to_string());
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
        let mode = hub.mode();
        if modes.last() != Some(&mode) {
            modes.push(mode);
        }
    }
    proxy.refuse(false);
    // It comes sixteen times; after the first few nobody believes it any more.
    assert!(modes.len() <= 12, "{modes:?}");
    holds_all(&hub, published);
    let count = usize::try_from(published).unwrap();
    assert_eq!(stream.sequences(count), (1..=published).collect::<Vec<_>>());
}
