//! A run over a WebSocket: the same events in the same order, the same resume, other frames.

use crate::common::ws::{Message, WebSocket};
use crate::common::{Request, Setup, on_both_stores, until};
use serde_json::json;

on_both_stores!(events_come_live_and_from_history_and_resume, a_run_that_ends_closes_the_socket,);

const PATH: &str = "/runs/r/events/ws";

fn events_come_live_and_from_history_and_resume(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 3);
    let mut socket = WebSocket::open(hub.port, PATH);
    let first = socket.json();
    assert_eq!(first, hub.history("r")[0], "the event of history, byte for byte as JSON");
    assert_eq!(socket.sequences(2), [2, 3]);
    hub.publish_numbers("r", 4, 2);
    assert_eq!(socket.sequences(2), [4, 5]);
    let second = told["events"][1]["id"].as_str().unwrap();
    let mut resumed = WebSocket::open(hub.port, &format!("{PATH}?last_event_id={second}"));
    assert_eq!(resumed.sequences(3), [3, 4, 5]);
    let mut live = WebSocket::open(hub.port, &format!("{PATH}?from=live&types=tool.*"));
    hub.publish("r", &json!([{ "type": "llm.stream" }, { "type": "tool.end" }]));
    assert_eq!(live.json()["event"]["category"], "tool");
    let mut ahead = WebSocket::open(hub.port, &format!("{PATH}?last_event_id=99999999999999-0"));
    let gap = ahead.json();
    assert_eq!((&gap["control"], &gap["reason"]), (&json!("gap"), &json!("reset")));
    assert_eq!(ahead.sequences(7), [1, 2, 3, 4, 5, 6, 7]);
    // A reader has nothing to say, but may; and its pings are answered.
    live.send(1, b"hello");
    live.send(9, b"are you there?");
    assert_eq!(live.next(), Message::Pong(b"are you there?".to_vec()));
}

fn a_run_that_ends_closes_the_socket(setup: Setup) {
    let hub = setup.hub();
    let mut socket = WebSocket::open(hub.port, PATH);
    until("it is counted", || {
        hub.publish("r", &json!({ "type": "a.b" }));
        (hub.get("/runs/r").json()["subscribers"] == 1).then_some(())
    });
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    let close = json!({ "control": "close", "reason": "run_finished" });
    while socket.json() != close {}
    assert_eq!(socket.next(), Message::Close(1000));
    let last = hub.history("r").pop().unwrap();
    let path = format!("{PATH}?last_event_id={}", last["id"].as_str().unwrap());
    let mut late = WebSocket::open(hub.port, &path);
    assert_eq!((late.json(), late.next()), (close, Message::Close(1000)));
    hub.publish_numbers("d", 1, 1);
    let mut deleted = WebSocket::open(hub.port, "/runs/d/events/ws");
    assert_eq!(deleted.sequences(1), [1]);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/d")).status, 204);
    assert_eq!(deleted.json()["reason"], "run_deleted");
    assert_eq!(deleted.next(), Message::Close(1000));
}

#[test]
fn a_hub_that_stops_says_so() {
    let setup = Setup::embedded();
    let mut hub = setup.hub();
    let mut socket = WebSocket::open(hub.port, PATH);
    hub.publish_numbers("r", 1, 1);
    assert_eq!(socket.sequences(1), [1]);
    hub.signal("-TERM");
    assert_eq!(socket.json(), json!({ "control": "close", "reason": "shutdown" }));
    assert_eq!(socket.next(), Message::Close(1001));
    assert_eq!(hub.wait(std::time::Duration::from_secs(11)).code(), Some(0));
}

#[test]
fn degraded_and_recovered_are_said() {
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let mut socket = WebSocket::open(hub.port, PATH);
    hub.publish_numbers("r", 1, 1);
    assert_eq!(socket.sequences(1), [1]);
    setup.redis.as_mut().unwrap().kill();
    hub.publish_spooled("r", &json!({ "type": "a.b" }));
    assert_eq!(socket.json()["control"], "degraded");
    setup.redis.as_mut().unwrap().start_again();
    let mut said = vec![socket.json(), socket.json()];
    // Redis came back empty, so there may be a gap as well.
    while !said.iter().any(|message| message["control"] == "recovered") {
        said.push(socket.json());
    }
    until("the event has come", || {
        let came = said.iter().any(|message| message["event"]["action"] == "b");
        if !came {
            said.push(socket.json());
        }
        came.then_some(())
    });
}

#[test]
fn a_client_that_answers_no_ping_is_cut() {
    let setup = Setup::embedded().set("SUBSCRIBE__HEARTBEAT", "100ms");
    let hub = setup.hub();
    let mut socket = WebSocket::open(hub.port, PATH);
    assert_eq!(socket.next(), Message::Ping(Vec::new()));
    assert_eq!(socket.next(), Message::Ping(Vec::new()));
    // It is to come back: this is not the end of the run.
    assert_eq!(socket.next(), Message::Close(1013));
    let mut alive = WebSocket::open(hub.port, PATH);
    for _ in 0..5 {
        assert_eq!(alive.next(), Message::Ping(Vec::new()));
        alive.send(10, b"");
    }
}

#[test]
fn bad_handshakes_are_refused_before_the_upgrade() {
    let setup = Setup::embedded().set("SERVER__CORS_ORIGINS", "https://app.example");
    let hub = setup.hub();
    let refused = |path: &str, headers: &str| {
        WebSocket::try_open(hub.port, path, headers).err().expect("it is refused")
    };
    for origin in [
        "https://evil",
        "null",
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:1",
    ] {
        refused(PATH, &format!("origin: {origin}\r\n")).is_problem(403, "FORBIDDEN");
    }
    for origin in ["https://app.example", "http://localhost"] {
        let header = format!("origin: {origin}\r\n");
        assert!(WebSocket::try_open(hub.port, PATH, &header).is_ok(), "{origin}");
    }
    let two = "origin: https://app.example\r\norigin: https://evil\r\n";
    refused(PATH, two).is_problem(403, "FORBIDDEN");
    refused(PATH, "upgrade: h2c\r\n").is_problem(400, "INVALID_QUERY");
    refused("/runs/a%0Ab/events/ws", "").is_problem(400, "INVALID_RUN_ID");
    refused(&format!("{PATH}?last_event_id=abc"), "").is_problem(400, "INVALID_EVENT_ID");
    refused(&format!("{PATH}?must_exist=true"), "").is_problem(404, "RUN_NOT_FOUND");
    hub.get(PATH).is_problem(400, "INVALID_QUERY");
    assert_eq!(hub.post(PATH, "{}").status, 405);
    let old = Request::new("GET", PATH)
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-version", "8")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let refusal = old.send(hub.port);
    refusal.is_problem(400, "INVALID_QUERY");
    assert_eq!(refusal.header("sec-websocket-version"), Some("13"));
}

#[test]
fn messages_that_break_the_rules_close_the_socket() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let open = || WebSocket::open(hub.port, PATH);
    let mut large = open();
    large.send(1, &vec![b'x'; (64 << 10) + 1]);
    assert_eq!(large.next(), Message::Close(1009));
    let mut unmasked = open();
    unmasked.send_raw(0x81, false, b"hi");
    assert_eq!(unmasked.next(), Message::Close(1002));
    let mut opcode = open();
    opcode.send(3, b"");
    assert_eq!(opcode.next(), Message::Close(1002));
    let mut lone = open();
    lone.send(0, b"a continuation of nothing");
    assert_eq!(lone.next(), Message::Close(1002));
    let mut endless = open();
    endless.send_raw(0x01, true, &[b'x'; 40_000]);
    endless.send_raw(0x00, true, &[b'x'; 40_000]);
    assert_eq!(endless.next(), Message::Close(1009));
    // A length that nobody could ever send is no reason to wait for it.
    let mut boast = open();
    boast.send_bytes(&[0x81, 0xff, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(boast.next(), Message::Close(1009));
    let mut text = open();
    text.send(1, &[0xff, 0xfe]);
    assert_eq!(text.next(), Message::Close(1007));
    let mut flood = open();
    for _ in 0..=100 {
        flood.send(1, b"x");
    }
    assert_eq!(flood.next(), Message::Close(1008));
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_told_if_it_reads_on() {
    let setup = Setup::embedded().set("SUBSCRIBE__STALL_TIMEOUT", "3s");
    let hub = setup.hub();
    let mut reads = WebSocket::open(hub.port, "/runs/other/events/ws");
    let mut socket = WebSocket::open(hub.port, PATH);
    until("it is counted", || {
        (hub.get("/metrics").text().contains("runhub_subscribers 2")).then_some(())
    });
    // More than the kernel's buffers hold.
    let large = json!({ "type": "a.b", "data": "x".repeat(900_000) });
    for _ in 0..20 {
        hub.publish("r", &large);
    }
    until("it is cut", || (hub.get("/runs/r").json()["subscribers"] == 0).then_some(()));
    hub.publish_numbers("other", 1, 1);
    assert_eq!(reads.sequences(1), [1], "others are not held up");
    // What was under way comes whole.
    let mut taken = 0;
    let told = loop {
        let said = socket.json();
        if said["control"].is_string() {
            break said;
        }
        taken += 1;
        assert_eq!(said["sequence"], taken);
    };
    assert!(taken < 20);
    assert_eq!(told, json!({ "control": "close", "reason": "slow_client" }));
    assert_eq!(socket.next(), Message::Close(1013));
}
