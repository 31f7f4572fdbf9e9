//! Server-Sent Events: where a stream begins, what it delivers, what it says, how it ends.

use crate::common::{Frame, Request, Setup, Stream, on_both_stores, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

on_both_stores!(
    history_then_live_without_a_seam,
    live_only,
    resume_behind_an_id,
    headers_and_framing,
    filters,
    an_unknown_run_waits,
    heartbeats_in_silence,
    a_finished_run_closes,
    a_cursor_ahead_of_the_run,
    a_cursor_of_another_run,
    a_trimmed_cursor_is_said,
    deleting_closes,
    deleting_closes_also_if_nobody_waits_for_the_answer,
    a_stream_that_opens_after_the_run_was_deleted_misses_nothing,
    as_many_streams_as_may_be,
    head_answers_as_get_does_and_opens_nothing,
    what_is_sent_behind_a_stream_is_not_carried_out,
    http_1_0_gets_no_chunks,
);

/// What a raw connection has said once these words were among it.
fn said_with(connection: &mut TcpStream, words: &str) -> String {
    let (mut said, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let count = connection.read(&mut piece).unwrap();
        assert!(count > 0, "ended after {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&said);
        if text.contains(words) {
            return text.into_owned();
        }
    }
}

fn what_is_sent_behind_a_stream_is_not_carried_out(setup: Setup) {
    let hub = setup.hub();
    let publish = Request::new("POST", "/runs/other/events").json(r#"{"type":"a.b"}"#).bytes();
    let follow = Request::new("GET", "/runs/r/events/stream").bytes();
    let mut connection = TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    connection.write_all(&[follow, publish].concat()).unwrap();
    let head = said_with(&mut connection, "retry: ");
    assert!(head.to_lowercase().contains("connection: close"), "{head}");
    hub.publish("r", &json!({ "type": "a.b" }));
    said_with(&mut connection, "event: a.b");
    assert_eq!(hub.get("/runs/other").status, 404);
    // A client that goes is noticed.
    drop(connection);
    until("nobody follows", || (hub.get("/runs/r").json()["subscribers"] == 0).then_some(()));
}

fn http_1_0_gets_no_chunks(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    // Head and body, to the end of the connection.
    let get = |path: &str, accept: &str| {
        let mut connection = TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!(
            "GET {path} HTTP/1.0\r\nhost: h\r\naccept: {accept}\r\nconnection: keep-alive\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        body.to_owned()
    };
    let streamed = get("/runs/r/events/stream", "text/event-stream");
    let frames: Vec<&str> = streamed.split_terminator("\n\n").collect();
    assert_eq!((frames.len(), frames[0]), (4, "retry: 3000"), "{streamed}");
    assert_eq!(frames[3], "event: close\ndata: {\"reason\":\"run_finished\"}");
    let exported = get("/runs/r/events", "application/x-ndjson");
    let types: Vec<Value> = exported.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(types.len(), 2, "{exported}");
}

fn id_of(told: &Value, index: usize) -> String {
    told["events"][index]["id"].as_str().unwrap().to_owned()
}

fn history_then_live_without_a_seam(setup: Setup) {
    let hub = setup.hub();
    // More than one page of catching up, and more than the outbox holds.
    for batch in 0..3 {
        hub.publish_numbers("r", batch * 600 + 1, 600);
    }
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.next(), Frame::Retry(3000));
    assert_eq!(stream.sequences(1800), (1..=1800).collect::<Vec<_>>());
    hub.publish_numbers("r", 1801, 2);
    let (id, event) = stream.event();
    assert_eq!(
        (event["sequence"].as_u64(), &event["data"]["n"], &event["run_id"]),
        (Some(1801), &json!(1801), &json!("r"))
    );
    assert_eq!(hub.history("r")[1800]["id"], id.as_str());
    assert_eq!(stream.sequences(1), [1802]);
}

fn live_only(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 5);
    let mut stream = hub.follow("/runs/r/events/stream?from=live");
    hub.publish_numbers("r", 6, 2);
    assert_eq!(stream.sequences(2), [6, 7]);
    let mut unknown = hub.follow("/runs/new/events/stream?from=live");
    hub.publish_numbers("new", 1, 2);
    assert_eq!(unknown.sequences(2), [1, 2]);
}

fn resume_behind_an_id(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 100);
    let cursor = id_of(&told, 59);
    let mut by_header = hub.follow_from("/runs/r/events/stream", &cursor);
    let mut by_query = hub.follow(&format!("/runs/r/events/stream?last_event_id={cursor}"));
    // Where a client once began no longer matters when it comes back.
    let mut back = hub.follow_from("/runs/r/events/stream?from=live", &cursor);
    hub.publish_numbers("r", 101, 1);
    for stream in [&mut by_header, &mut by_query, &mut back] {
        assert_eq!(stream.sequences(41), (61..=101).collect::<Vec<_>>());
    }
    let mut zero = hub.follow_from("/runs/r/events/stream", "0-0");
    assert_eq!(zero.sequences(2), [1, 2]);
}

fn headers_and_framing(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "llm.stream", "data": "a\r\nid: 1-1\n\nevent: x\u{2028}" }));
    let request =
        Request::new("GET", "/runs/r/events/stream").header("accept", "text/event-stream");
    let mut stream = Stream::open(hub.port, request.header("x-request-id", "mine"));
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-request-id", "mine"),
    ] {
        assert_eq!(stream.head.header(name), Some(value));
    }
    let frame = stream.next_real();
    let Frame::Event { name: Some(name), data, .. } = frame else { panic!("{frame:?}") };
    assert_eq!(
        (name.as_str(), data["data"].as_str()),
        ("llm.stream", Some("a\r\nid: 1-1\n\nevent: x\u{2028}"))
    );
    let frame = hub.follow("/runs/r/events/stream?framing=message").next_real();
    assert!(matches!(frame, Frame::Event { name: None, .. }), "{frame:?}");
}

fn filters(setup: Setup) {
    let hub = setup.hub();
    let by = |agent: &str| json!({ "agent_id": agent, "agent_name": format!("name-{agent}") });
    let publish = |kind: &str, agent: &str| {
        hub.publish("r", &json!({ "type": kind, "source": by(agent) }));
    };
    for _ in 0..2 {
        publish("llm.stream", "a");
        publish("tool.start", "b");
        publish("tool.end", "b");
        publish("llm.end", "b");
    }
    let mut types = hub.follow("/runs/r/events/stream?types=llm.*,tool.end");
    let mut agent = hub.follow("/runs/r/events/stream?agent=a");
    let mut both = hub.follow("/runs/r/events/stream?agent=name-b&types=llm.*");
    publish("tool.start", "a");
    publish("llm.end", "b");
    assert_eq!(types.sequences(7), [1, 3, 4, 5, 7, 8, 10]);
    assert_eq!(agent.sequences(3), [1, 5, 9]);
    assert_eq!(both.sequences(3), [4, 8, 10]);
    let page = hub.get("/runs/r/events?agent=a&types=llm.*").json();
    assert_eq!((&page["count"], &page["events"][1]["sequence"]), (&json!(2), &json!(5)));
}

fn an_unknown_run_waits(setup: Setup) {
    let hub = setup.hub();
    hub.get("/runs/r/events/stream?must_exist=true").is_problem(404, "RUN_NOT_FOUND");
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.next(), Frame::Retry(3000));
    hub.publish_numbers("r", 1, 3);
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    assert_eq!(hub.follow("/runs/r/events/stream?must_exist=true").sequences(1), [1]);
}

fn heartbeats_in_silence(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__HEARTBEAT", "200ms");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.next(), Frame::Retry(3000));
    for _ in 0..3 {
        let Frame::Comment(text) = stream.next() else { panic!("no heartbeat") };
        let time = text.strip_prefix("heartbeat ").expect("a heartbeat");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    hub.publish_numbers("r", 1, 1);
    assert_eq!(stream.sequences(1), [1]);
}

fn a_finished_run_closes(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let mut live = hub.follow("/runs/r/events/stream");
    assert_eq!(live.sequences(3), [1, 2, 3]);
    let told =
        hub.publish("r", &json!([{ "type": "lifecycle.completed" }, { "type": "system.warning" }]));
    assert_eq!(live.sequences(2), [4, 5]);
    live.closes("run_finished");
    let mut late = hub.follow("/runs/r/events/stream");
    assert_eq!(late.sequences(5), [1, 2, 3, 4, 5]);
    late.closes("run_finished");
    // With a filter that hides the end, the end is still noticed.
    let mut filtered = hub.follow("/runs/r/events/stream?types=llm.*");
    assert_eq!(filtered.sequences(3), [1, 2, 3]);
    filtered.closes("run_finished");
    // Coming back with the last id it saw, it is told that nothing more comes.
    let third = hub.history("r")[2]["id"].as_str().unwrap().to_owned();
    let again =
        Request::new("GET", "/runs/r/events/stream?types=llm.*").header("last-event-id", &third);
    assert_eq!(Stream::try_open(hub.port, again).head.status, 204);
    let come_back = |id: &str| {
        let request = Request::new("GET", "/runs/r/events/stream").header("last-event-id", id);
        Stream::try_open(hub.port, request)
    };
    let mut behind = come_back(&id_of(&told, 0));
    assert_eq!(behind.sequences(1), [5]);
    behind.closes("run_finished");
    assert_eq!(come_back(&id_of(&told, 1)).head.status, 204);
    assert_eq!(hub.get("/runs/r/events/stream?from=live").status, 204);
}

fn a_cursor_ahead_of_the_run(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 3);
    let ahead = "99999999999999-7";
    let mut stream = hub.follow_from("/runs/r/events/stream", ahead);
    let (name, gap) = stream.control();
    assert_eq!(name, "gap");
    assert_eq!(
        gap,
        json!({ "reason": "reset", "requested": ahead, "oldest": id_of(&told, 0), "missed": null })
    );
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    let mut empty = hub.follow_from("/runs/none/events/stream", "5-5");
    let gap = json!({ "reason": "reset", "requested": "5-5", "oldest": null, "missed": null });
    assert_eq!(empty.control(), ("gap".to_owned(), gap));
    hub.publish_numbers("none", 1, 1);
    assert_eq!(empty.sequences(1), [1]);
}

fn a_cursor_of_another_run(setup: Setup) {
    let hub = setup.hub();
    let other = hub.publish_numbers("other", 1, 1);
    hub.publish_numbers("r", 1, 3);
    // Older than anything here, and nothing is missing: no gap.
    let mut stream = hub.follow_from("/runs/r/events/stream", &id_of(&other, 0));
    assert_eq!(stream.sequences(3), [1, 2, 3]);
}

fn a_trimmed_cursor_is_said(setup: Setup) {
    let setup = setup.set("RETENTION__MAX_EVENTS", "100");
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 10);
    for batch in 0..10 {
        hub.publish_numbers("r", batch * 100 + 11, 100);
    }
    let run = hub.get("/runs/r").json();
    let (length, first) = (run["length"].as_u64().unwrap(), run["first_id"].as_str().unwrap());
    assert!((100..400).contains(&length), "{run}");
    let mut stream = hub.follow_from("/runs/r/events/stream", &id_of(&told, 4));
    let (name, gap) = stream.control();
    assert_eq!(name, "gap");
    let requested = id_of(&told, 4);
    assert_eq!(
        gap,
        json!({ "reason": "trimmed", "requested": requested, "oldest": first, "missed": null })
    );
    assert_eq!(stream.sequences(2), [1011 - length, 1012 - length]);
    // Before the first event of all the number of what is missing is known.
    let (_, gap) = hub.follow_from("/runs/r/events/stream", "0-0").control();
    assert_eq!(gap["missed"], 1010 - length);
    // Whoever asks for what there is misses nothing.
    assert_eq!(hub.follow("/runs/r/events/stream").sequences(1), [1011 - length]);
}

fn deleting_closes(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 2);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(2), [1, 2]);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/r")).status, 204);
    stream.closes("run_deleted");
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
    hub.get("/runs/r/events").is_problem(404, "RUN_NOT_FOUND");
    hub.send(Request::new("DELETE", "/runs/r")).is_problem(404, "RUN_NOT_FOUND");
    hub.publish_numbers("r", 1, 1);
    assert_eq!(hub.follow("/runs/r/events/stream").sequences(1), [1]);
}

fn deleting_closes_also_if_nobody_waits_for_the_answer(setup: Setup) {
    let hub = setup.hub();
    for run in ["a", "b", "c"] {
        // Many, so that it takes a while.
        (0..4).for_each(|n| drop(hub.publish_numbers(run, n * 1000 + 1, 1000)));
        let mut stream = hub.follow(&format!("/runs/{run}/events/stream?from=live"));
        hub.publish_numbers(run, 4001, 1);
        assert_eq!(stream.sequences(1), [4001]);
        let (path, mut wait) = (format!("/runs/{run}"), Duration::ZERO);
        until("a deletion was begun before its client had gone", || {
            let connection = Request::new("DELETE", &path).open(hub.port);
            std::thread::sleep(wait);
            drop(connection);
            wait += Duration::from_micros(100);
            (hub.get(&path).status == 404).then_some(())
        });
        stream.closes("run_deleted");
    }
}

fn a_stream_that_opens_after_the_run_was_deleted_misses_nothing(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__HEARTBEAT", "500ms");
    let hub = setup.hub();
    // Its RunActor, too, has all of it.
    let mut reader = hub.follow("/runs/r/events/stream");
    hub.publish_numbers("r", 1, 3);
    assert_eq!(reader.sequences(3), [1, 2, 3]);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/r")).status, 204);
    reader.closes("run_deleted");
    let mut stream = hub.follow("/runs/r/events/stream");
    // For as long as it takes until the store is asked whether the run is still there.
    for _ in 0..8 {
        assert!(!matches!(stream.next(), Frame::Control { .. }));
    }
    hub.publish_numbers("r", 1, 1);
    assert_eq!(stream.sequences(1), [1]);
}

fn as_many_streams_as_may_be(setup: Setup) {
    let setup = setup.set("SUBSCRIBE__MAX_SUBSCRIBERS", "3");
    let hub = setup.hub();
    let mut open: Vec<Stream> = (0..3).map(|_| hub.follow("/runs/r/events/stream")).collect();
    hub.get("/runs/r/events/stream").is_problem(503, "TOO_MANY_SUBSCRIBERS");
    hub.publish_numbers("r", 1, 1);
    assert_eq!(open[0].sequences(1), [1]);
    open.pop();
    until("a closed stream frees its place", || {
        let again = Stream::try_open(hub.port, Request::new("GET", "/runs/r/events/stream"));
        (again.head.status == 200).then_some(())
    });
}

fn head_answers_as_get_does_and_opens_nothing(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let answer = hub.send(Request::new("HEAD", "/runs/r/events/stream"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(hub.get("/runs/r").json()["subscribers"], 0);
    hub.publish("over", &json!({ "type": "lifecycle.completed" }));
    hub.publish_numbers("gone", 1, 1);
    hub.expire("gone");
    for (path, header, status) in [
        ("/runs/r/events/stream", ("last-event-id", "7"), 400),
        ("/runs/r/events/stream?from=middle", ("x", "x"), 400),
        ("/runs/r/events/stream", ("accept", "text/html"), 406),
        ("/runs/new/events/stream?must_exist=true", ("x", "x"), 404),
        ("/runs/over/events/stream?from=live", ("x", "x"), 204),
        ("/runs/gone/events/stream", ("x", "x"), 410),
        ("/events/stream?runs=r,over", ("x", "x"), 200),
        ("/events/stream?runs=r,over", ("last-event-id", "7"), 400),
        ("/events/stream?runs=over&from=live", ("x", "x"), 204),
    ] {
        let answer = hub.send(Request::new("HEAD", path).header(header.0, header.1));
        assert_eq!((answer.status, &answer.body[..]), (status, &b""[..]), "{path} {header:?}");
    }
    let mut stream = hub.follow("/runs/r/events/stream");
    stream.event();
    assert_eq!(hub.get("/runs/r").json()["subscribers"], 1);
    drop(stream);
    until("the closed stream is noticed", || {
        (hub.get("/runs/r").json()["subscribers"] == 0).then_some(Duration::ZERO)
    });
}
