//! What operators see: health, metrics, the description of the interface, request ids, stopping.

use crate::common::wait::PATIENCE;
use crate::common::ws::WebSocket;
use crate::common::{Frame, Request, Setup, on_both_stores, until};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

on_both_stores!(health_and_metrics, stopping_closes_and_loses_nothing);

fn health_and_metrics(setup: Setup) {
    let hub = setup.hub();
    assert_eq!(hub.get("/health/live").status, 200);
    let ready = hub.get("/health/ready").json();
    assert_eq!((&ready["mode"], &ready["store"]["reachable"]), (&json!("normal"), &json!(true)));
    hub.publish_numbers("r", 1, 3);
    let mut stream = hub.follow("/runs/r/events/stream");
    stream.event();
    // The stream may have its first event from the run's past before the run is followed.
    let metrics = until("the run is followed", || {
        let metrics = hub.get("/metrics");
        metrics.text().contains("runhub_followed_runs 1").then_some(metrics)
    });
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for line in [
        "runhub_events_published_total 3",
        "runhub_subscribers 1",
        "runhub_store_up 1",
        "# TYPE runhub_publish_seconds histogram",
        "runhub_actor_panics_total{actor=\"RunActor\"} 0",
        "runhub_mode{mode=\"normal\"} 1",
        "runhub_mode{mode=\"degraded\"} 0",
        "runhub_store_failures_total{operation=\"append\"} 0",
        "runhub_subscribers_cut_total{reason=\"slow_client\"} 0",
        "runhub_spool_damaged_total 0",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
    assert!(!metrics.text().contains("run=\""), "a run's name is never a label");
    let openapi = hub.get("/openapi.json").json();
    for path in [
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/expiry",
        "/runs/{run_id}/events",
        "/runs/{run_id}/events/stream",
        "/runs/{run_id}/events/ws",
        "/runs/{run_id}/messages",
        "/events",
        "/events/stream",
        "/health/live",
        "/health/ready",
        "/metrics",
    ] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    for head in
        ["/health/live", "/health/ready", "/runs", "/runs/r", "/runs/r/events", "/metrics", "/"]
    {
        let answer = hub.send(Request::new("HEAD", head));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{head}");
    }
    let echoed = hub.send(Request::new("GET", "/runs").header("x-request-id", "abc-1"));
    assert_eq!(echoed.header("x-request-id"), Some("abc-1"));
    let odd = hub.send(Request::new("GET", "/runs").header("x-request-id", "a b"));
    assert_eq!(odd.header("x-request-id").map(str::len), Some(26));
    assert_eq!(odd.header("x-content-type-options"), Some("nosniff"));
}

fn stopping_closes_and_loses_nothing(setup: Setup) {
    let mut hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let mut streams: Vec<_> = (0..3).map(|_| hub.follow("/runs/r/events/stream")).collect();
    for stream in &mut streams {
        assert_eq!(stream.sequences(3), [1, 2, 3]);
    }
    for n in 0..50 {
        assert_eq!(
            hub.post(
                "/runs/r/events?ack=accepted",
                json!({ "type": "a.b", "data": n }).to_string()
            )
            .status,
            202
        );
    }
    hub.signal("-TERM");
    for stream in &mut streams {
        loop {
            match stream.next_real() {
                Frame::Event { .. } => {}
                Frame::Control { name, data } => {
                    assert_eq!((name.as_str(), &data["reason"]), ("close", &json!("shutdown")));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stream.next(), Frame::End);
    }
    assert_eq!(hub.wait(Duration::from_secs(10)).code(), Some(0));
    let hub = setup.hub();
    let history = hub.history("r");
    assert_eq!(history.len(), 53);
    assert_eq!(history[52]["sequence"], 53);
}

#[test]
fn a_client_that_vanishes_in_its_head_or_body_is_let_go() {
    let setup = Setup::embedded().set("PUBLISH__BODY_TIMEOUT", "300ms");
    let hub = setup.hub();
    // A body that stops half-way, of known and of unknown length.
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut connection = TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            connection,
            "POST /runs/r/events HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n4\r\n{{\"t"
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("the body stopped coming"), "{answer}");
    }
    until("the hub still serves", || (hub.get("/health/live").status == 200).then_some(()));
}

#[test]
fn what_a_run_holds_is_kept_by_no_cache() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    for path in ["/runs", "/runs/r", "/runs/r/events", "/runs/r/messages", "/runs/none", "/metrics"]
    {
        assert_eq!(hub.get(path).header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn a_client_that_stops_within_a_later_head_is_let_go() {
    let settings = ["BODY_TIMEOUT", "STREAM_TIMEOUT", "TIMEOUT"];
    let setup = settings
        .into_iter()
        .fold(Setup::embedded(), |setup, key| setup.set(&format!("PUBLISH__{key}"), "1s"));
    let hub = setup.hub();
    let open = || {
        let mut connection = TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(connection, "GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
        connection
    };
    let (mut quiet, mut slow) = (open(), open());
    let mut stream = hub.follow("/runs/r/events/stream");
    let mut socket = WebSocket::open(hub.port, "/runs/r/events/ws");
    socket.send(1, b"hello");
    write!(slow, "GET /hea").unwrap();
    let mut rest = Vec::new();
    assert_eq!(slow.read_to_end(&mut rest).unwrap(), 0, "it ends without an answer");
    // Who has not begun anything may wait for longer, and so may who follows.
    write!(quiet, "GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert!(quiet.read(&mut [0; 4096]).unwrap() > 0);
    hub.publish_numbers("r", 1, 1);
    assert_eq!((stream.sequences(1), socket.sequences(1)), (vec![1], vec![1]));
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_that_has_ended_is_not_kept() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count();
    let before = open();
    let most = (0..300).map(|_| {
        assert_eq!(hub.get("/health/live").status, 200);
        open()
    });
    let most = most.max().unwrap();
    assert!(most < before + 50, "{most} descriptors, {before} before");
}

#[test]
#[cfg(target_os = "linux")]
fn threads_wait_for_their_turn_unless_told_otherwise() {
    const SCHED_BATCH: i32 = 3;
    /// Nice value and scheduling policy, as in proc_pid_stat(5).
    fn scheduled(stat: &str) -> (i32, i32) {
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[16].parse().unwrap(), fields[38].parse().unwrap())
    }
    let of_threads = |setup: Setup| {
        let hub = setup.hub();
        hub.publish_numbers("r", 1, 1);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", hub.pid())).unwrap();
        let stats =
            tasks.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok());
        stats.map(|stat| scheduled(&stat)).collect::<BTreeSet<_>>()
    };
    let own = scheduled(&std::fs::read_to_string("/proc/self/stat").unwrap());
    let usual = if own == (0, 0) { (0, SCHED_BATCH) } else { own };
    assert_eq!(of_threads(Setup::redis()), BTreeSet::from([usual]));
    let off = Setup::redis().set("SERVER__BATCH_SCHEDULING", "false");
    assert_eq!(of_threads(off), BTreeSet::from([own]));
    // A priority that somebody gave it stays.
    let nice = Setup::embedded().run_by(&["nice", "-n", "3"]);
    assert_eq!(of_threads(nice), BTreeSet::from([((own.0 + 3).min(19), own.1)]));
}

#[test]
fn origins_are_matched_exactly() {
    let setup = Setup::embedded().set("SERVER__CORS_ORIGINS", "https://app.example");
    let hub = setup.hub();
    let from = |origin: &str| {
        let answer = hub.send(Request::new("GET", "/runs").header("origin", origin));
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(from("https://app.example").as_deref(), Some("https://app.example"));
    for other in
        ["https://app.example.evil", "http://app.example", "https://app.example:8443", "null"]
    {
        assert_eq!(from(other), None, "{other}");
    }
    let asked = Request::new("OPTIONS", "/runs/r/events/stream")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "last-event-id");
    assert!((200..300).contains(&hub.send(asked).status));
}
