//! One order for everybody, dense numbers, and a seam that neither loses nor repeats.

use crate::common::{Frame, Hub, Request, Setup, Stream, on_both_stores};
use serde_json::{Value, json};
use std::collections::HashSet;

on_both_stores!(many_publishers_many_readers_one_order, readers_that_come_and_go_miss_nothing);

const PUBLISHERS: usize = 6;
const EACH: usize = 60;

fn publish_all(hub: &Hub) {
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || {
                for number in 0..EACH {
                    hub.publish(
                        "r",
                        &json!([{ "type": "a.b", "data": [publisher, number] }, { "type": "a.c" }]),
                    );
                }
            });
        }
    });
}

const TOTAL: usize = PUBLISHERS * EACH * 2;

fn many_publishers_many_readers_one_order(setup: Setup) {
    let hub = setup.hub();
    let orders: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = hub.follow("/runs/r/events/stream");
                scope.spawn(move || (0..TOTAL).map(|_| stream.event().1).collect::<Vec<_>>())
            })
            .collect();
        publish_all(&hub);
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let history = hub.history("r");
    assert!(
        orders.iter().all(|order| *order == history),
        "every reader sees the order of the history"
    );
    assert!(history.iter().zip(1..).all(|(e, n)| e["sequence"] == n));
    let ids: HashSet<&str> = history.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), TOTAL);
    for publisher in 0..PUBLISHERS {
        let of_one = history
            .iter()
            .filter(|e| e["data"][0] == publisher)
            .map(|e| e["data"][1].as_u64().unwrap());
        assert_eq!(
            of_one.collect::<Vec<_>>(),
            (0..EACH as u64).collect::<Vec<_>>(),
            "each publisher's order is kept"
        );
    }
}

/// Reads the whole run, breaking the connection off after every few events and coming back.
fn read_with_breaks(port: u16, seed: u64, total: usize) -> Vec<Value> {
    let (mut seen, mut state) = (Vec::new(), seed | 1);
    while seen.len() < total {
        let request = Request::new("GET", "/runs/r/events/stream");
        let request = match seen.last() {
            Some(last) => {
                let last: &Value = last;
                request.header("last-event-id", last["id"].as_str().unwrap())
            }
            None => request,
        };
        let mut stream = Stream::open(port, request);
        // xorshift: the number of events until the next break, by seed.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for _ in 0..=state % 40 {
            if seen.len() == total {
                break;
            }
            match stream.next_real() {
                Frame::Event { data, .. } => seen.push(data),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    seen
}

fn readers_that_come_and_go_miss_nothing(setup: Setup) {
    let hub = setup.hub();
    let port = hub.port;
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let read: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn(move || read_with_breaks(port, seed.wrapping_add(n * 7919), TOTAL))
            })
            .collect();
        publish_all(&hub);
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let history = hub.history("r");
    for seen in read {
        assert_eq!(seen.len(), history.len());
        for (seen, stored) in seen.iter().zip(&history) {
            assert_eq!(seen, stored, "seed {seed}");
        }
    }
}
