//! One run's flood, one slow client or one bad request changes nothing for other runs.

use crate::common::{Frame, Request, Setup, on_both_stores, until};
use serde_json::json;
use std::net::TcpStream;

on_both_stores!(
    a_reader_that_is_slow_but_steady_is_not_cut,
    a_slow_reader_costs_little_and_holds_back_nobody,
    a_reader_that_takes_nothing_is_cut
);

/// Opens a stream and reads nothing of it. Both ends' kernels take some megabytes; then it stalls.
fn open_and_read_nothing(port: u16, path: &str) -> TcpStream {
    Request::new("GET", path).open(port)
}

fn a_slow_reader_costs_little_and_holds_back_nobody(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut quick = hub.follow("/runs/r/events/stream");
    assert_eq!(quick.sequences(1), [1]);
    let event = json!({ "type": "a.b", "data": "x".repeat(2000) });
    let batch = serde_json::Value::from(vec![event; 500]);
    // The same load before and after, so that what the load itself takes is not counted.
    for _ in 0..8 {
        hub.publish("warm", &batch);
    }
    let before = hub.memory();
    let slow = open_and_read_nothing(hub.port, "/runs/r/events/stream");
    until("the slow reader is there", || {
        (hub.get("/runs/r").json()["subscribers"] == 2).then_some(())
    });
    for _ in 0..16 {
        hub.publish("r", &batch);
    }
    assert_eq!(quick.sequences(8000), (2..=8001).collect::<Vec<_>>());
    let grown = hub.memory().saturating_sub(before);
    // 16 MB were published; the store's own memory is in this figure too.
    assert!(grown < 48 << 20, "the hub grew by {grown} bytes");
    hub.publish_numbers("other", 1, 1);
    assert_eq!(hub.follow("/runs/other/events/stream").sequences(1), [1]);
    // The slow one is slow, not lost: it gets everything, in order.
    let mut slow = crate::common::Stream::of(slow);
    assert_eq!(slow.sequences(8001), (1..=8001).collect::<Vec<_>>());
}

fn a_reader_that_takes_nothing_is_cut(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__STALL_TIMEOUT", "1s");
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": "x".repeat(10_000) });
    let batch = serde_json::Value::from(vec![event; 100]);
    let stalled = open_and_read_nothing(hub.port, "/runs/r/events/stream");
    hub.publish("r", &batch);
    until("the reader is there", || (hub.get("/runs/r").json()["subscribers"] == 1).then_some(()));
    for _ in 0..20 {
        hub.publish("r", &batch);
    }
    until("the reader is let go", || (hub.get("/runs/r").json()["subscribers"] == 0).then_some(()));
    // What it had got before is whole; then it is told, and the stream ends.
    let mut stalled = crate::common::Stream::of(stalled);
    let mut sequence = 0;
    loop {
        match stalled.next_real() {
            Frame::Event { data, .. } => {
                sequence += 1;
                assert_eq!(data["sequence"], sequence);
            }
            Frame::Control { name, data } => {
                assert_eq!((name.as_str(), &data["reason"]), ("close", &json!("slow_client")));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stalled.next(), Frame::End);
    assert!(sequence < 2100, "it was cut before it had got all");
}

fn a_reader_that_is_slow_but_steady_is_not_cut(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__STALL_TIMEOUT", "1s");
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": "x".repeat(10_000) });
    let batch = serde_json::Value::from(vec![event; 100]);
    for _ in 0..8 {
        hub.publish("r", &batch);
    }
    let mut connection = open_and_read_nothing(hub.port, "/runs/r/events/stream");
    // The pace is what is tested: 8 MB in about 5 s, five times as long as a reader may take nothing.
    let (mut buffer, mut bytes) = (vec![0; 32 << 10], Vec::new());
    let last = br#""sequence":800,"#;
    while !bytes[bytes.len().saturating_sub(64 << 10)..].windows(last.len()).any(|w| w == last) {
        let count = std::io::Read::read(&mut connection, &mut buffer).unwrap();
        assert!(count > 0, "cut after {} bytes", bytes.len());
        bytes.extend_from_slice(&buffer[..count]);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(!String::from_utf8_lossy(&bytes).contains("event: close"));
}
