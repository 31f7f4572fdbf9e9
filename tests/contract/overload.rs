//! Clients that want more than there is: of memory for their bodies, of files that may be open.

use crate::common::wait::PATIENCE;
use crate::common::{Answer, Request, Setup, Stream, until};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Begins to send a body of this length to a path, and sends so much of it.
fn begin(port: u16, path: &str, kind: &str, length: usize, sent: &str) -> TcpStream {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: {kind}\r\n");
    write!(connection, "{head}content-length: {length}\r\n\r\n{sent}").unwrap();
    connection
}

/// An event of this many bytes, but for its end.
fn unended(bytes: usize) -> String {
    format!(r#"{{"type":"a.b","data":"{}"#, "x".repeat(bytes))
}

#[test]
fn bodies_that_are_not_there_yet_take_no_more_than_their_room() {
    let setup = Setup::embedded()
        .set("PUBLISH__BODIES", "1MiB")
        .set("PUBLISH__MAX_BODY", "1MiB")
        .set("PUBLISH__BODY_TIMEOUT", "40s");
    let hub = setup.hub();
    let whole = unended(700_000) + "\"}";
    let part = &whole[..600_000];
    let mut slow = begin(hub.port, "/runs/r/events", "application/json", whole.len(), part);
    let refused = |answer: &Answer| {
        answer.is_problem(429, "RATE_LIMITED");
        assert!(answer.text().contains("publish.bodies"), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("1"));
    };
    until("what has come of it is held", || {
        hub.get("/metrics").text().contains("runhub_body_bytes 589824").then_some(())
    });
    refused(&hub.post("/runs/r/events", whole.clone()));
    let lines = Request::new("POST", "/runs/r/events?mode=stream")
        .body("application/x-ndjson", format!("{{\"type\":\"a.b\"}}\n{part}"));
    let answer = hub.send(lines);
    refused(&answer);
    assert_eq!(
        (answer.json()["line"].clone(), answer.json()["count"].clone()),
        (json!(2), json!(1))
    );
    // What is small gets through, and what has begun may end.
    hub.publish_numbers("small", 1, 3);
    slow.write_all(&whole.as_bytes()[600_000..]).unwrap();
    let mut told = String::new();
    slow.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 201"), "{told}");
    assert_eq!(hub.post("/runs/r/events", whole).status, 201);
}

#[test]
fn a_large_body_that_comes_slowly_is_not_waited_for() {
    let setup = Setup::embedded()
        .set("PUBLISH__BODY_TIMEOUT", "300ms")
        .set("PUBLISH__STREAM_TIMEOUT", "300ms");
    let hub = setup.hub();
    for (path, kind) in [
        ("/runs/r/events", "application/json"),
        ("/runs/r/events?mode=stream", "application/x-ndjson"),
    ] {
        let mut slow = begin(hub.port, path, kind, 1 << 20, &unended(100_000));
        let mut reading = slow.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            let mut answer = [0; 2048];
            let read = reading.read(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..read]).into_owned()
        });
        // Each byte comes in time.
        while !answer.is_finished() {
            if slow.write_all(b"x").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        assert!(answer.contains("the body comes too slowly"), "{path}: {answer}");
    }
}

#[test]
fn with_few_descriptors_the_hub_keeps_what_it_needs_itself() {
    // It has threads for each processor.
    let limit = 100 + 20 * std::thread::available_parallelism().unwrap().get();
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s").with_few_files(limit);
    let mut hub = setup.hub();
    let stream = || Stream::try_open(hub.port, Request::new("GET", "/runs/r/events/stream"));
    let mut open: Vec<Stream> =
        std::iter::repeat_with(stream).take_while(|stream| stream.head.status == 200).collect();
    hub.get("/runs/r/events/stream").is_problem(503, "TOO_MANY_SUBSCRIBERS");
    // Who may not follow keeps no connection, either.
    assert_eq!(stream().head.header("connection"), Some("close"));
    assert!((10..limit / 2).contains(&open.len()), "{} of {limit}", open.len());
    // Clients that say nothing: those whom the hub has no room for are closed, the others let go in time.
    let _idle: Vec<TcpStream> =
        (0..limit).map(|_| TcpStream::connect(("127.0.0.1", hub.port)).unwrap()).collect();
    let told = until("a publish gets through", || {
        let request = Request::new("POST", "/runs/r/events").json(r#"{"type":"a.b"}"#);
        request.try_send(hub.port).ok()
    });
    assert_eq!(told.status, 201);
    assert!(open.iter_mut().all(|stream| stream.sequences(1) == [1]));
    // It can still dial Redis, and write its spool.
    let redis = setup.redis_server();
    redis.freeze();
    hub.publish_spooled("r", &json!({ "type": "a.b" }));
    redis.thaw();
    hub.until_mode("normal");
    assert!(open.iter_mut().all(|stream| stream.sequences(1) == [2]));
    let said = format!("{limit} files may be open at once");
    assert!(hub.log().contains(&said), "{}", hub.log());
    drop(open);
    hub.signal("-TERM");
    assert_eq!(hub.wait(Duration::from_secs(10)).code(), Some(0));
}
