//! One run's flood, one slow client or one bad request changes nothing for other runs.

use crate::common::{Frame, Request, Setup, on_both_stores, until};
use serde_json::json;
use std::net::TcpStream;

on_both_stores!(
    a_reader_that_is_slow_but_steady_is_not_cut,
    a_reader_of_large_events_of_several_runs_that_is_slow_but_steady_is_not_cut,
    a_slow_reader_costs_little_and_holds_back_nobody,
    a_reader_that_takes_nothing_is_cut,
    a_reader_of_several_runs_that_takes_nothing_is_cut_once
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

fn a_reader_of_several_runs_that_takes_nothing_is_cut_once(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__STALL_TIMEOUT", "1s");
    let hub = setup.hub();
    let _stalled = open_and_read_nothing(hub.port, "/events/stream?runs=a,b");
    let event = json!({ "type": "a.b", "data": "x".repeat(10_000) });
    let batch = serde_json::Value::from(vec![event; 100]);
    for _ in 0..20 {
        hub.publish("a", &batch);
        hub.publish("b", &batch);
    }
    for run in ["/runs/a", "/runs/b"] {
        until("the reader is let go", || (hub.get(run).json()["subscribers"] == 0).then_some(()));
    }
    let metrics = hub.get("/metrics");
    let line = "runhub_subscribers_cut_total{reason=\"slow_client\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

fn a_reader_that_is_slow_but_steady_is_not_cut(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__STALL_TIMEOUT", "1s");
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": "x".repeat(10_000) });
    let batch = serde_json::Value::from(vec![event; 100]);
    for _ in 0..8 {
        hub.publish("r", &batch);
    }
    let connection = open_and_read_nothing(hub.port, "/runs/r/events/stream");
    // 8 MB in about 5 s, five times as long as a reader may take nothing.
    takes_steadily(connection, 32 << 10, |bytes| {
        let end = &bytes[bytes.len().saturating_sub(64 << 10)..];
        contains(end, br#""sequence":800,"#)
    });
}

fn a_reader_of_large_events_of_several_runs_that_is_slow_but_steady_is_not_cut(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__STALL_TIMEOUT", "1s");
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": "x".repeat(1_000_000) });
    for _ in 0..3 {
        hub.publish("a", &event);
        hub.publish("b", &event);
    }
    let connection = open_and_read_nothing(hub.port, "/events/stream?runs=a,b");
    // Little of what is to come is on its way already.
    socket2::SockRef::from(&connection).set_recv_buffer_size(32 << 10).unwrap();
    // An event takes about 2 s, while which those of the other run wait.
    takes_steadily(connection, 10 << 10, |bytes| bytes.len() > 6_000_000);
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Takes so many bytes every 20 ms until it has what it wants. The pace is what is tested.
#[track_caller]
fn takes_steadily(mut connection: TcpStream, at_a_time: usize, has_all: impl Fn(&[u8]) -> bool) {
    let (mut buffer, mut bytes) = (vec![0; at_a_time], Vec::new());
    while !has_all(&bytes) {
        let count = std::io::Read::read(&mut connection, &mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let told = bytes.len().saturating_sub(2 * at_a_time);
        let is_cut = count == 0 || contains(&bytes[told..], b"event: close");
        assert!(!is_cut, "cut after {} bytes", bytes.len());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
