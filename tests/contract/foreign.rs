//! Foreign programs on the same Redis: they write with `XADD`, they read our entries.

use crate::common::{Setup, until};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn our_entries_have_the_contracts_fields_in_order() {
    let setup = Setup::redis();
    let hub = setup.hub();
    hub.publish("demo", &json!({ "type": "llm.stream", "data": { "content": "hi" }, "event_id": "k",
        "timestamp": "2025-01-01T12:00:00.001Z", "source": { "agent_id": "r1", "team_name": "t" } }));
    hub.publish(
        "demo",
        &json!({ "type": "a.b", "source": { "node_name": "n" }, "tags": ["x"], "priority": "low",
        "trace_id": "t", "event_id": "l", "timestamp": "2025-01-01T12:00:00.002Z" }),
    );
    let entries: Vec<(String, Vec<String>)> =
        setup.redis_server().command(&["XRANGE", "run:demo:events", "-", "+"]);
    let fields = |index: usize| entries[index].1.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        fields(0),
        [
            "timestamp",
            "2025-01-01T12:00:00.001Z",
            "sequence",
            "1",
            "source_agent_id",
            "r1",
            "source_agent_type",
            "",
            "source_agent_name",
            "",
            "source_team_name",
            "t",
            "event_category",
            "llm",
            "event_action",
            "stream",
            "data",
            r#"{"content":"hi"}"#,
            "event_id",
            "k"
        ]
    );
    assert_eq!(
        fields(1)[14..],
        [
            "event_action",
            "b",
            "data",
            "null",
            "source",
            r#"{"node_name":"n"}"#,
            "event_id",
            "l",
            "trace_id",
            "t",
            "priority",
            "low",
            "tags",
            r#"["x"]"#
        ][..]
    );
    let kind = |key: &str| setup.redis_server().command::<String>(&["TYPE", key]);
    assert_eq!(
        (kind("run:demo:events"), kind("run:demo:meta"), kind("runs")),
        ("stream".into(), "hash".into(), "zset".into())
    );
    let status: String = setup.redis_server().command(&["HGET", "run:demo:meta", "status"]);
    let sequence: u64 = setup.redis_server().command(&["HGET", "run:demo:meta", "sequence"]);
    assert_eq!((status.as_str(), sequence), ("running", 2));
    let runs: Vec<String> = setup.redis_server().command(&["ZRANGE", "runs", "0", "-1"]);
    assert_eq!(runs, ["demo"]);
}

#[test]
fn a_foreign_reader_sees_every_field_of_an_event_at_once() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let event = json!({ "type": "llm.stream", "data": 1, "source": { "node_name": "n" }, "event_id": "k",
        "metadata": {}, "tags": [], "priority": "low", "message_id": "m", "conversation_id": "v",
        "session_id": "s", "trace_id": "t", "correlation_id": "c" });
    let bare = json!({ "type": "a.b", "data": "x".repeat(1 << 16) });
    let names = |fields: &[String]| fields.iter().step_by(2).cloned().collect::<Vec<_>>();
    let always = "timestamp sequence source_agent_id source_agent_type source_agent_name \
        source_team_name event_category event_action data";
    let (full, short) = (
        "source event_id correlation_id trace_id session_id conversation_id message_id priority tags \
         metadata",
        "event_id",
    );
    let wanted = |further: &str| {
        format!("{always} {further}").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    hub.publish("demo", &event);
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            for _ in 0..50 {
                hub.publish("demo", &bare);
            }
        });
        // What is there, is there whole, whenever one looks.
        loop {
            let ended = publishing.is_finished();
            let entries: Vec<(String, Vec<String>)> =
                redis.command(&["XREVRANGE", "run:demo:events", "+", "-", "COUNT", "2"]);
            for (_, fields) in entries.iter().filter(|(_, fields)| fields[3] != "1") {
                assert_eq!((names(fields), fields[17].len()), (wanted(short), (1 << 16) + 2));
            }
            if ended {
                break;
            }
        }
    });
    let entries: Vec<(String, Vec<String>)> =
        redis.command(&["XRANGE", "run:demo:events", "-", "+"]);
    assert_eq!((names(&entries[0].1), entries.len()), (wanted(full), 51));
}

#[test]
fn a_foreign_program_is_a_publisher() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let mut stream = hub.follow("/runs/7/events/stream");
    let add = |sequence: &str, action: &str| {
        redis.xadd(
            "run:7:events",
            &[
                ("timestamp", b"2025-01-01T12:00:00.001Z"),
                ("sequence", sequence.as_bytes()),
                ("source_agent_id", b"r1"),
                ("source_agent_type", b""),
                ("source_agent_name", b""),
                ("source_team_name", b""),
                ("event_category", b"llm"),
                ("event_action", action.as_bytes()),
                ("data", br#"{"content":"hi"}"#),
            ],
        )
    };
    let id = add("1", "stream");
    let (seen, event) = stream.event();
    assert_eq!(seen, id);
    assert_eq!(
        event,
        json!({ "id": id, "run_id": "7", "timestamp": "2025-01-01T12:00:00.001Z", "sequence": 1,
            "source": { "agent_id": "r1" }, "event": { "category": "llm", "action": "stream" },
            "data": { "content": "hi" } })
    );
    add("2", "end");
    assert_eq!(stream.sequences(1), [2]);
    // Our own numbers go on behind theirs.
    assert_eq!(hub.publish("7", &json!({ "type": "a.b" }))["events"][0]["sequence"], 3);
    assert_eq!(stream.sequences(1), [3]);
    // Their end of the run is an end.
    redis.xadd("run:7:events", &[("event_category", b"lifecycle"), ("event_action", b"failed")]);
    assert_eq!(stream.event().1["sequence"], Value::Null);
    stream.closes("run_finished");
    let run = hub.get("/runs/7").json();
    assert_eq!(
        (&run["status"], &run["length"], &run["last_sequence"]),
        (&json!("failed"), &json!(4), &json!(3))
    );
    assert!(run["expires_in"].as_u64().is_some_and(|s| s > 86_000), "{run}");
    assert!(redis.command::<i64>(&["PTTL", "run:7:events"]) > 86_000_000);
}

#[test]
fn a_foreign_program_is_heard_in_a_run_that_only_the_hub_wrote_to_for_long() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/7/events/stream");
    for sequence in 1..=40 {
        hub.publish("7", &json!({ "type": "a.b" }));
        assert_eq!(stream.sequences(1), [sequence]);
    }
    // Nothing is published behind it that would tell of it.
    let id = setup.redis_server().xadd("run:7:events", &[("data", b"1")]);
    assert_eq!(stream.event().0, id);
    // Nor is it lost where the hub's own come right behind.
    for sequence in [41, 42] {
        let id = setup.redis_server().xadd("run:7:events", &[("data", b"1")]);
        assert_eq!(hub.publish("7", &json!({ "type": "a.b" }))["events"][0]["sequence"], sequence);
        assert_eq!(stream.event().0, id);
        assert_eq!(stream.sequences(1), [sequence]);
    }
}

#[test]
fn what_a_foreign_program_adds_between_two_publishes_is_counted_and_comes_between_them() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/7/events/stream");
    let publish = || hub.publish("7", &json!({ "type": "a.b" }))["events"][0]["sequence"].take();
    let mut last = 0;
    for _ in 0..3 {
        // So often that the hub no longer looks for others' events soon.
        for sequence in last + 1..=last + 20 {
            assert_eq!(publish(), sequence);
        }
        assert_eq!(stream.sequences(20), (last + 1..=last + 20).collect::<Vec<_>>());
        last += 22;
        let theirs = (last - 1).to_string();
        setup.redis_server().xadd("run:7:events", &[("sequence", theirs.as_bytes())]);
        assert_eq!(publish(), last);
        assert_eq!(stream.sequences(2), [last - 1, last]);
    }
}

#[test]
fn odd_entries_break_nothing() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let mut stream = hub.follow("/runs/7/events/stream");
    let odd: [&[(&str, &[u8])]; 10] = [
        &[("unrelated", b"x")],
        &[
            ("event_category", b"llm\nid: 9-9"),
            ("event_action", b"x\r\ndata: forged"),
            ("data", b"1"),
        ],
        &[("event_category", b"LLM"), ("event_action", b""), ("data", b"{broken")],
        &[("data", b"\xff\x00\r\n")],
        &[("sequence", b"-3"), ("timestamp", b"noon\n"), ("data", b"")],
        &[("sequence", b"99999999999999999999"), ("data", b" [1,\n2,\r3] ")],
        &[("source", b"[1]"), ("source_agent_id", b"\xff"), ("tags", b"x"), ("event_id", b"a\nb")],
        &[("data", b"\"\\ud800\""), ("priority", b"max"), ("metadata", b"{\"a\":\n1}")],
        &[("event_type", b"llm_stream"), ("data", b"{}")],
        &[
            ("event_category", b"gap"),
            ("event_action", b"gap"),
            ("correlation_id", b"a\r\nevent: close"),
        ],
    ];
    for fields in odd {
        redis.xadd("run:7:events", fields);
    }
    // The strict reader accepts no forged or broken frame.
    let events: Vec<Value> = (0..odd.len()).map(|_| stream.event().1).collect();
    let kinds: Vec<String> = events
        .iter()
        .map(|e| {
            format!(
                "{}.{}",
                e["event"]["category"].as_str().unwrap(),
                e["event"]["action"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        kinds[..4],
        ["unknown.unknown", "unknown.unknown", "unknown.unknown", "unknown.unknown"]
    );
    assert_eq!(kinds[8..], ["llm.stream", "gap.gap"]);
    assert_eq!(events[0]["data"], Value::Null);
    assert_eq!(events[2]["data"], "{broken");
    assert_eq!(events[3]["data"], "\u{fffd}\0\r\n");
    assert_eq!(events[4]["sequence"], Value::Null);
    assert_eq!((&events[5]["sequence"], &events[5]["data"]), (&Value::Null, &json!([1, 2, 3])));
    assert_eq!(events[6]["source"], json!({ "agent_id": "\u{fffd}" }));
    assert_eq!(events[7]["data"], "\"\\ud800\"");
    assert_eq!(events[9]["correlation_id"], "a\r\nevent: close");
    for event in &events {
        let timestamp = event["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'));
    }
    let mut history = hub.history("7");
    assert_eq!(history.len(), odd.len());
    assert_eq!(history.pop().unwrap()["event"]["category"], "gap");
    assert_eq!(hub.publish("7", &json!({ "type": "a.b" }))["events"][0]["sequence"], 1);
}

#[test]
fn a_key_that_holds_something_else_breaks_its_own_run_only() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let () = redis.command(&["SET", "run:broken:events", "x"]);
    let mut broken = hub.follow("/runs/unaffected/events/stream");
    hub.post("/runs/broken/events", r#"{"type":"a.b"}"#).is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/broken/events").is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/broken/events/stream").is_problem(503, "STORE_UNAVAILABLE");
    hub.publish_numbers("unaffected", 1, 2);
    assert_eq!(broken.sequences(2), [1, 2]);
    // A stream that is broken under its readers disturbs no other, and heals.
    let mut stream = hub.follow("/runs/later/events/stream");
    hub.publish_numbers("later", 1, 1);
    assert_eq!(stream.sequences(1), [1]);
    let () = redis.command(&["SET", "run:later:events", "x"]);
    hub.publish_numbers("unaffected", 3, 2);
    assert_eq!(broken.sequences(2), [3, 4]);
    assert_eq!(hub.get("/health/ready").json()["mode"], "normal");
    let () = redis.command(&["DEL", "run:later:events"]);
    let told = hub.publish_numbers("later", 2, 1);
    until("the healed run goes on", || {
        stream.next_within(Duration::from_secs(5)).filter(|frame| {
            matches!(frame, crate::common::Frame::Event { id, .. } if told["events"][0]["id"] == id.as_str())
        })
    });
}

#[test]
fn tagged_keys() {
    let setup = Setup::redis().set("REDIS__KEY_STYLE", "tagged");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/a/events/stream");
    hub.publish_numbers("a", 1, 1);
    let id = setup
        .redis_server()
        .xadd("run:{a}:events", &[("event_category", b"x"), ("event_action", b"y")]);
    assert_eq!(stream.sequences(1), [1]);
    assert_eq!(stream.event().0, id);
}

#[test]
fn a_server_that_tells_of_no_changes_is_asked_again_and_again() {
    let setup = Setup::redis();
    let redis = setup.redis_server();
    let () = redis.command(&["ACL", "SETUSER", "default", "-client|tracking"]);
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let add = |number: &str| {
        let fields: [(&str, &[u8]); 3] =
            [("event_category", b"a"), ("event_action", b"b"), ("sequence", number.as_bytes())];
        redis.xadd("run:r:events", &fields);
    };
    add("1");
    assert_eq!(stream.sequences(1), [1]);
    hub.publish_numbers("r", 2, 2);
    assert_eq!(stream.sequences(2), [2, 3]);
    add("4");
    assert_eq!(stream.sequences(1), [4]);
    let () = redis.command(&["DEL", "run:r:events"]);
    let (name, gap) = stream.control();
    assert_eq!((name.as_str(), &gap["reason"]), ("gap", &json!("reset")));
    assert!(hub.log().contains("CLIENT TRACKING was answered NOPERM"), "{}", hub.log());
}
