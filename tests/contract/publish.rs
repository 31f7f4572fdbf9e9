//! Publishing: what is taken, in which forms, and what the answer says.

use crate::common::{Request, Setup, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    one_event_is_stored_as_sent,
    an_array_and_lines_are_stored_in_order,
    curl_without_a_content_type_works,
    accepted_events_arrive,
    what_was_accepted_is_refused_by_the_event_alone,
    the_same_event_id_is_one_event,
    an_idempotency_key_stands_for_event_ids,
    an_event_id_that_the_hub_made_is_known_again,
    an_event_may_be_published_as_it_was_read,
);

fn one_event_is_stored_as_sent(setup: Setup) {
    let hub = setup.hub();
    let data = r#"{"z":1.10,"a":12345678901234567890,"text":"é\u00e9\u2028\\","a":[ 1,
        2 ]}"#;
    let sent = format!(
        r#"{{"type":"tool.end","data":{data},"timestamp":"2025-01-01T13:00:00.0015+01:00","event_id":"order-17",
            "source":{{"agent_id":"r1","agent_name":"researcher","node_name":"n1","depth":2}},
            "correlation_id":"c","trace_id":"t","session_id":"s","conversation_id":"v","message_id":"m",
            "priority":"high","tags":["x","y"],"metadata":{{"k":1.0}}}}"#
    );
    let answer = hub.post("/runs/r/events", sent);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told = answer.json();
    let id = told["events"][0]["id"].as_str().unwrap();
    assert_eq!(
        told,
        json!({ "run_id": "r", "status": "persisted", "count": 1,
            "events": [{ "id": id, "sequence": 1, "event_id": "order-17" }] })
    );
    let page = hub.get("/runs/r/events");
    // Byte for byte but for line breaks, which stand between tokens and become spaces.
    assert!(page.text().contains(&data.replace('\n', " ")), "{}", page.text());
    assert!(page.text().contains(r#""metadata":{"k":1.0}"#));
    // A number that many parsers cannot hold is carried all the same.
    assert_eq!(hub.post("/runs/big/events", r#"{"type":"a.b","data":[1e400,-0.0]}"#).status, 201);
    assert!(hub.get("/runs/big/events").text().contains(r#""data":[1e400,-0.0]"#));
    let mut event: Value = page.json()["events"][0].clone();
    event.as_object_mut().unwrap().remove("data");
    assert_eq!(
        event,
        json!({ "id": id, "run_id": "r", "timestamp": "2025-01-01T12:00:00.001Z", "sequence": 1,
            "source": { "agent_id": "r1", "agent_name": "researcher", "node_name": "n1", "depth": 2 },
            "event": { "category": "tool", "action": "end" }, "event_id": "order-17",
            "correlation_id": "c", "trace_id": "t", "session_id": "s", "conversation_id": "v",
            "message_id": "m", "priority": "high", "tags": ["x", "y"], "metadata": { "k": 1.0 } })
    );
}

fn an_array_and_lines_are_stored_in_order(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish(
        "r",
        &json!([{ "type": "a.b", "data": 1 }, { "event_type": "llm_stream", "data": 2 }]),
    );
    assert_eq!((&told["count"], &told["events"][1]["sequence"]), (&json!(2), &json!(2)));
    let lines = "{\"type\":\"a.b\",\"data\":3}\n\n{\"event\":{\"category\":\"a\",\"action\":\"c\"},\"data\":4}\n";
    let answer =
        hub.send(Request::new("POST", "/runs/r/events").body("application/x-ndjson", lines));
    assert_eq!((answer.status, &answer.json()["count"]), (201, &json!(2)));
    let events = hub.history("r");
    let seen: Vec<_> =
        events.iter().map(|e| (e["sequence"].as_u64(), e["data"].as_u64())).collect();
    assert_eq!(seen, (1..=4).map(|n| (Some(n), Some(n))).collect::<Vec<_>>());
    assert_eq!(events[1]["event"], json!({ "category": "llm", "action": "stream" }));
    assert_eq!(events[1]["source"], Value::Null);
    let ids: Vec<&str> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids[0], told["events"][0]["id"]);
    let times = events.iter().map(|e| e["timestamp"].as_str().unwrap());
    assert!(times.into_iter().all(|t| t.len() == 24 && t.ends_with('Z')));
}

fn curl_without_a_content_type_works(setup: Setup) {
    let hub = setup.hub();
    let body = r#"{"type":"llm.stream","data":{"content":"hi"}}"#;
    let form = "application/x-www-form-urlencoded";
    let post = || Request::new("POST", "/runs/r/events");
    assert_eq!(hub.send(post().body(form, body)).status, 201);
    assert_eq!(hub.send(post().body("", body)).status, 201);
    assert_eq!(hub.send(post().body("application/json; charset=UTF-8", body)).status, 201);
    // A page of another site can send a form without being asked first.
    for kind in [form, ""] {
        let from_page = post().body(kind, body).header("origin", "https://evil.example");
        hub.send(from_page).is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(hub.history("r").len(), 3);
}

fn accepted_events_arrive(setup: Setup) {
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    let answer = hub.post("/runs/r/events?ack=accepted", r#"{"type":"a.b","event_id":"k"}"#);
    assert_eq!(
        (answer.status, answer.json()),
        (
            202,
            json!({ "run_id": "r", "status": "accepted", "count": 1, "events": [{ "event_id": "k" }] })
        )
    );
    assert_eq!(stream.event().1["event_id"], "k");
    // Its publisher may send it again before or after it is stored, under an id that the hub made too.
    let told = hub.post("/runs/r/events?ack=accepted", r#"{"type":"a.c","data":1}"#).json();
    let again = json!({ "type": "a.c", "data": 1, "event_id": told["events"][0]["event_id"] });
    assert_eq!(hub.post("/runs/r/events", again.to_string()).status, 200);
    assert_eq!(hub.post("/runs/r/events?ack=accepted", again.to_string()).status, 202);
    assert_eq!(stream.event().1["sequence"], 2);
    assert_eq!(hub.post("/runs/r/events?ack=persisted", r#"{"type":"a.b"}"#).status, 201);
}

fn what_was_accepted_is_refused_by_the_event_alone(setup: Setup) {
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish("r", &json!({ "type": "a.b", "data": 1, "event_id": "k" }));
    let batch = json!([
        { "type": "a.c", "event_id": "before" },
        { "type": "a.b", "data": 2, "event_id": "k" },
        { "type": "a.c", "event_id": "behind" },
    ]);
    // Nobody waits who could be told that the second one stands for something else.
    assert_eq!(hub.post("/runs/r/events?ack=accepted", batch.to_string()).status, 202);
    for event_id in ["k", "before", "behind"] {
        assert_eq!(stream.event().1["event_id"], event_id);
    }
    assert_eq!(hub.history("r").len(), 3);
}

fn the_same_event_id_is_one_event(setup: Setup) {
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": { "x": 1 }, "event_id": "k" });
    let first = hub.publish("r", &event);
    let again = hub.post("/runs/r/events", event.to_string());
    assert_eq!((again.status, again.json()), (200, first.clone()));
    // Another time of day is no other content; other data is.
    let restamped = json!({ "type": "a.b", "data": { "x": 1 }, "event_id": "k", "timestamp": "2025-01-01T00:00:00Z" });
    assert_eq!(hub.post("/runs/r/events", restamped.to_string()).status, 200);
    let other = json!([{ "type": "a.b" }, { "type": "a.b", "data": { "x": 2 }, "event_id": "k" }]);
    let refused = hub.post("/runs/r/events", other.to_string());
    refused.is_problem(422, "EVENT_ID_REUSED");
    assert_eq!(refused.json()["index"], 1);
    // A batch that is new in part is 201, with the old place for what is old.
    let mixed = hub.publish("r", &json!([event, { "type": "a.b", "event_id": "l" }]));
    assert_eq!(mixed["events"][0], first["events"][0]);
    assert_eq!(mixed["events"][1]["sequence"], 2);
    assert_eq!(hub.publish("other", &event)["events"][0]["sequence"], 1);
    assert_eq!(hub.history("r").len(), 2);
}

fn an_idempotency_key_stands_for_event_ids(setup: Setup) {
    let hub = setup.hub();
    let send = |body: &str, key: &str| {
        hub.send(Request::new("POST", "/runs/r/events").header("idempotency-key", key).json(body))
    };
    let first = send(r#"{"type":"a.b"}"#, "K");
    assert_eq!((first.status, &first.json()["events"][0]["event_id"]), (201, &json!("K")));
    assert_eq!(send(r#"{"type":"a.b"}"#, "K").status, 200);
    let batch = r#"[{"type":"a.b"},{"type":"a.c"},{"type":"a.d","event_id":"own"}]"#;
    let told = send(batch, "K").json();
    let keys: Vec<_> =
        told["events"].as_array().unwrap().iter().map(|e| e["event_id"].clone()).collect();
    assert_eq!(keys, ["K-0", "K-1", "own"]);
    assert_eq!((send(batch, "K").status, hub.history("r").len()), (200, 4));
    send(batch, "with space").is_problem(400, "INVALID_EVENT_ID");
    send(batch, &"x".repeat(129)).is_problem(400, "INVALID_EVENT_ID");
    send(batch, &"x".repeat(128)).is_problem(400, "INVALID_EVENT_ID");
}

fn an_event_id_that_the_hub_made_is_known_again(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 30);
    let first = hub.publish("r", &json!({ "type": "a.b", "data": 7 }));
    hub.publish_numbers("r", 31, 30);
    let key = &first["events"][0]["event_id"];
    let again = hub
        .post("/runs/r/events", json!({ "type": "a.b", "data": 7, "event_id": key }).to_string());
    assert_eq!((again.status, again.json()), (200, first.clone()));
    let other = json!([{ "type": "a.b" }, { "type": "a.b", "data": 8, "event_id": key }]);
    hub.post("/runs/r/events", other.to_string()).is_problem(422, "EVENT_ID_REUSED");
    let mixed = json!([{ "type": "a.c" }, { "type": "a.b", "data": 7, "event_id": key }, { "type": "a.d" }]);
    let mixed = hub.publish("r", &mixed);
    let sequences: Vec<_> =
        (0..3).map(|i| mixed["events"][i]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [62, 31, 63]);
}

fn an_event_may_be_published_as_it_was_read(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "a.b", "data": [1], "event_id": "k" }));
    let read = hub.history("r")[0].clone();
    let again = hub.post("/runs/r/events", read.to_string());
    assert_eq!((again.status, &again.json()["events"][0]["sequence"]), (200, &json!(1)));
    hub.post("/runs/other/events", read.to_string()).is_problem(422, "INVALID_EVENT");
}
