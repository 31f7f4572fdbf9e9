//! Publishing to many runs with one request, and line by line over one that lasts.

use crate::common::{Answer, Hub, Request, Setup, on_both_stores, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

on_both_stores!(
    one_body_for_many_runs,
    a_bad_element_stops_all_runs,
    lines_are_events_as_they_arrive,
    the_first_bad_line_ends_it,
    a_hub_that_stops_says_how_many_lines_it_took,
    lines_are_known_by_their_idempotency_key,
);

fn ndjson(path: &str, lines: &[Value]) -> Request {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Request::new("POST", path).body("application/x-ndjson", body)
}

fn one_body_for_many_runs(setup: Setup) {
    let hub = setup.hub();
    let event = |run: &str, n: u64| json!({ "run_id": run, "type": "a.b", "data": { "n": n } });
    let body = json!([event("x", 1), event("y", 1), event("x", 2)]);
    let told = hub.post("/events", body.to_string());
    assert_eq!(told.status, 201, "{}", told.text());
    let told = told.json();
    assert_eq!((&told["status"], &told["count"]), (&json!("persisted"), &json!(3)));
    let rows: Vec<_> = told["events"].as_array().unwrap().iter().collect();
    let places: Vec<_> = rows
        .iter()
        .map(|r| (r["run_id"].as_str().unwrap(), r["sequence"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [("x", 1), ("y", 1), ("x", 2)]);
    assert_eq!(hub.history("x")[1]["id"], rows[2]["id"]);
    let lines = hub.send(ndjson("/events", &[event("y", 2), event("z", 1)]));
    assert_eq!(lines.status, 201, "{}", lines.text());
    assert_eq!((hub.history("y").len(), hub.history("z").len()), (2, 1));
    // One object, known by its key.
    let keyed = || {
        Request::new("POST", "/events")
            .header("idempotency-key", "k")
            .json(event("x", 3).to_string())
    };
    assert_eq!((hub.send(keyed()).status, hub.send(keyed()).status), (201, 200));
    let accepted = hub.post("/events?ack=accepted", event("x", 4).to_string());
    assert_eq!((accepted.status, &accepted.json()["status"]), (202, &json!("accepted")));
    until("it is stored", || (hub.history("x").len() == 4).then_some(()));
}

fn a_bad_element_stops_all_runs(setup: Setup) {
    let hub = setup.hub();
    for (bad, detail) in [
        (json!({ "type": "a.b" }), "run_id"),
        (json!({ "run_id": "..", "type": "a.b" }), "run_id"),
        (json!({ "run_id": 7, "type": "a.b" }), "string"),
        (json!({ "run_id": "y" }), "no type"),
    ] {
        let body = json!([{ "run_id": "x", "type": "a.b" }, bad]);
        let answer = hub.post("/events", body.to_string());
        answer.is_problem(422, "INVALID_EVENT");
        assert_eq!(answer.json()["index"], 1);
        assert!(answer.text().contains(detail), "{}", answer.text());
    }
    hub.get("/runs/x").is_problem(404, "RUN_NOT_FOUND");
    hub.post("/events", "{").is_problem(400, "INVALID_JSON");
    // Runs are independent: what one refuses the others have.
    hub.publish("x", &json!({ "type": "a.b", "event_id": "k", "data": 1 }));
    let body = json!([
        { "run_id": "y", "type": "a.b" },
        { "run_id": "x", "type": "a.b" },
        { "run_id": "x", "type": "a.b", "event_id": "k", "data": 2 },
    ]);
    let answer = hub.post("/events", body.to_string());
    answer.is_problem(422, "EVENT_ID_REUSED");
    assert_eq!((&answer.json()["index"], &answer.json()["stored"]), (&json!(2), &json!(1)));
    assert!(answer.text().contains("the event at index 2 "), "{}", answer.text());
    assert_eq!((hub.history("x").len(), hub.history("y").len()), (1, 1));
    assert_eq!(hub.get("/events").status, 405);
}

/// A chunked publish under way.
struct Lines(TcpStream);

impl Lines {
    fn open(hub: &Hub, path: &str, headers: &str) -> Self {
        let mut connection = TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        write!(
            connection,
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .unwrap();
        Self(connection)
    }

    fn send(&mut self, bytes: &[u8]) {
        // The hub may have answered and closed already.
        drop(write!(self.0, "{:x}\r\n", bytes.len()));
        drop(self.0.write_all(bytes).and_then(|()| self.0.write_all(b"\r\n")));
    }

    fn end(mut self) -> Answer {
        drop(self.0.write_all(b"0\r\n\r\n"));
        self.answer()
    }

    /// The answer, which may come before the body has ended.
    fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            if let Some((mut answer, body)) = Answer::parse(&bytes)
                && body.len() == answer.header("content-length").unwrap().parse::<usize>().unwrap()
            {
                answer.body = body.to_vec();
                return answer;
            }
            let mut piece = [0; 4096];
            let count = self.0.read(&mut piece).unwrap();
            assert!(count > 0, "the answer is cut off");
            bytes.extend_from_slice(&piece[..count]);
        }
    }
}

const STREAM: &str = "/runs/r/events?mode=stream";

fn line(n: u64) -> Vec<u8> {
    format!("{}\n", json!({ "type": "llm.stream", "data": { "n": n } })).into_bytes()
}

fn lines_are_events_as_they_arrive(setup: Setup) {
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let mut lines = Lines::open(&hub, STREAM, "");
    for n in 1..=3 {
        lines.send(&line(n));
        // It is there before the next one is sent.
        assert_eq!(stream.sequences(1), [n]);
    }
    // Several at once, one in two pieces, an empty one, and the last without a line break.
    lines.send(&[line(4), b"\n".to_vec(), line(5)[..9].to_vec()].concat());
    assert_eq!(stream.sequences(1), [4]);
    lines.send(&[&line(5)[9..], line(6).trim_ascii_end()].concat());
    assert_eq!(stream.sequences(1), [5]);
    let told = lines.end();
    assert_eq!(told.status, 201, "{}", told.text());
    let told = told.json();
    let last = &hub.history("r")[5];
    assert_eq!((&told["status"], &told["count"]), (&json!("persisted"), &json!(6)));
    assert_eq!((&told["last_id"], &told["last_sequence"]), (&last["id"], &last["sequence"]));
    // A body with a length does as well, and none at all is no event.
    let answer = hub.send(ndjson(STREAM, &[json!({ "type": "a.b" })]));
    assert_eq!((answer.status, &answer.json()["last_sequence"]), (201, &json!(7)));
    let empty = hub.send(Request::new("POST", STREAM).body("application/x-ndjson", "\n"));
    assert_eq!((empty.status, &empty.json()["count"]), (201, &json!(0)));
}

fn the_first_bad_line_ends_it(setup: Setup) {
    let hub = setup.hub();
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&[line(1), line(2), b"\n{\"type\":\n".to_vec(), line(3)].concat());
    let told = lines.answer();
    told.is_problem(422, "INVALID_EVENT");
    assert_eq!((&told.json()["line"], &told.json()["count"]), (&json!(4), &json!(2)));
    assert_eq!(hub.history("r").len(), 2);
    // An event_id that is taken is bad in the same way.
    let keyed = |n: u64| json!({ "type": "a.b", "event_id": "k", "data": n });
    let told = hub.send(ndjson(STREAM, &[keyed(1), json!({ "type": "a.c" }), keyed(2), keyed(1)]));
    told.is_problem(422, "EVENT_ID_REUSED");
    assert_eq!((&told.json()["line"], &told.json()["count"]), (&json!(3), &json!(2)));
    assert_eq!(hub.history("r").len(), 4);
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&line(5));
    lines.send(format!("{{\"type\":\"a.b\",\"data\":\"{}", "x".repeat(2 << 20)).as_bytes());
    let told = lines.answer();
    told.is_problem(413, "EVENT_TOO_LARGE");
    assert_eq!((&told.json()["line"], &told.json()["count"]), (&json!(2), &json!(1)));
    hub.send(Request::new("POST", STREAM).json("{}")).is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    hub.post("/runs/r/events?mode=batch", "{}").is_problem(400, "INVALID_QUERY");
}

fn a_hub_that_stops_says_how_many_lines_it_took(setup: Setup) {
    let mut hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&[line(1), line(2), line(3)[..9].to_vec()].concat());
    assert_eq!(stream.sequences(2), [1, 2]);
    hub.signal("-TERM");
    let told = lines.answer();
    told.is_problem(503, "STORE_UNAVAILABLE");
    assert!(told.text().contains("stopping"), "{}", told.text());
    assert_eq!((&told.json()["line"], &told.json()["count"]), (&json!(3), &json!(2)));
    assert_eq!(hub.wait(Duration::from_secs(11)).code(), Some(0));
}

fn lines_are_known_by_their_idempotency_key(setup: Setup) {
    let hub = setup.hub();
    let send = |count: u64| {
        let mut lines = Lines::open(&hub, STREAM, "idempotency-key: k\r\n");
        for n in 1..=count {
            lines.send(&line(n));
        }
        lines.end()
    };
    assert_eq!(send(3).status, 201);
    // Sent again after a lost connection, and going on.
    let again = send(5);
    assert_eq!((again.status, &again.json()["last_sequence"]), (201, &json!(5)));
    assert_eq!(send(5).status, 200);
    assert_eq!(hub.history("r").len(), 5);
}

#[test]
fn a_body_that_stops_or_is_cut_leaves_what_was_whole() {
    let setup = Setup::embedded().set("PUBLISH__STREAM_TIMEOUT", "200ms");
    let hub = setup.hub();
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&[line(1), b"{\"type\":\"a.".to_vec()].concat());
    let told = lines.answer();
    told.is_problem(400, "INVALID_JSON");
    assert_eq!((&told.json()["line"], &told.json()["count"]), (&json!(2), &json!(1)));
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&[line(2), b"{\"type\":\"a.".to_vec()].concat());
    until("the whole line is stored", || (hub.history("r").len() == 2).then_some(()));
    drop(lines);
    assert_eq!(hub.publish_numbers("r", 3, 1)["events"][0]["sequence"], 3);
}

#[test]
fn lines_are_spooled_while_redis_is_away() {
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let mut lines = Lines::open(&hub, STREAM, "");
    lines.send(&line(1));
    until("it is stored", || (hub.get("/runs/r").json()["length"] == 1).then_some(()));
    setup.redis.as_mut().unwrap().kill();
    lines.send(&line(2));
    let told = lines.end();
    assert_eq!((told.status, &told.json()["status"]), (202, &json!("spooled")));
    assert_eq!((&told.json()["count"], &told.json()["last_id"]), (&json!(2), &Value::Null));
}
