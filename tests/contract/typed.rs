//! Known event types: their schema, strict mode, flat names, and the version of an event's data.

use crate::common::{Request, Setup, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    what_does_not_fit_is_kept_as_sent,
    strict_refuses_what_does_not_fit,
    a_version_is_kept_and_shown_where_given,
);

#[test]
fn every_type_has_a_schema() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let answer = hub.get("/schemas/events.json");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/schema+json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    let document = answer.json();
    assert_eq!(document["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let defs = document["$defs"].as_object().unwrap();
    for (kind, required) in [
        ("lifecycle.started", json!([])),
        ("lifecycle.completed", json!([])),
        ("lifecycle.failed", json!(["error"])),
        ("lifecycle.cancelled", json!([])),
        ("lifecycle.finish", json!(["status"])),
        ("agent.start", json!(["prompt", "framework"])),
        ("agent.end", json!(["status"])),
        ("agent.error", json!(["error", "error_type"])),
        ("llm.start", json!([])),
        ("llm.end", json!(["content"])),
        ("llm.reasoning", json!(["thought"])),
        ("llm.tool_call", json!(["tool", "args"])),
        ("llm.tool_result", json!(["tool", "result"])),
        ("tool.start", json!(["tool_name"])),
        ("tool.end", json!(["tool_name", "tool_result"])),
        ("message.delta", json!(["delta"])),
        ("message.complete", json!(["content"])),
        ("node.start", json!(["node_name"])),
        ("node.end", json!(["node_name"])),
        ("dispatch.team", json!(["team_name", "task"])),
        ("dispatch.worker", json!(["worker_name", "task"])),
        ("dispatch.assigned", json!([])),
        ("system.topology", json!(["hierarchy"])),
        ("system.warning", json!(["message"])),
        ("system.error", json!(["message"])),
        ("outline.generated", json!(["outline"])),
        ("document.generated", json!(["document"])),
    ] {
        assert_eq!(defs[kind]["required"], required, "{kind}");
        for name in required.as_array().unwrap() {
            assert!(defs[kind]["properties"][name.as_str().unwrap()].is_object(), "{kind} {name}");
        }
    }
    // Those that know a needed field by two keys, or need one of two.
    for (kind, keys) in [
        ("llm.stream", ["content", "delta"]),
        ("stage.change", ["to_stage", "new_stage"]),
        ("task.started", ["task_type", "taskType"]),
        ("task.progress", ["task_type", "taskType"]),
        ("task.completed", ["task_type", "taskType"]),
        ("task.failed", ["task_type", "taskType"]),
    ] {
        let choice = defs[kind]["allOf"][0]["anyOf"].as_array().unwrap();
        let needed: Vec<&Value> = choice.iter().map(|one| &one["required"][0]).collect();
        assert_eq!(needed, keys, "{kind}");
    }
    assert!(defs["custom.event"].get("type").is_none());
    assert_eq!(defs.len(), 34);

    let tag = answer.header("etag").unwrap();
    let again = Request::new("GET", "/schemas/events.json").header("if-none-match", tag);
    let again = hub.send(again);
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)));
    let head = hub.send(Request::new("HEAD", "/schemas/events.json"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    hub.post("/schemas/events.json", "{}").is_problem(405, "METHOD_NOT_ALLOWED");
    assert!(hub.get("/openapi.json").json()["paths"]["/schemas/events.json"].is_object());
}

fn what_does_not_fit_is_kept_as_sent(setup: Setup) {
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    for data in [json!({ "tool_name": 5 }), json!("text"), json!(null)] {
        hub.publish("r", &json!({ "type": "tool.start", "data": data }));
        assert_eq!(stream.event().1["data"], data);
    }
    assert_eq!(hub.history("r").len(), 3);
}

fn strict_refuses_what_does_not_fit(setup: Setup) {
    let setup = setup.set("EVENTS__STRICT", "true");
    let hub = setup.hub();
    let refused = hub.post("/runs/r/events", r#"{"type":"tool.start","data":{"tool_name":5}}"#);
    refused.is_problem(422, "INVALID_EVENT");
    assert!(refused.json()["detail"].as_str().unwrap().contains("\"tool_name\" is 5"));
    let batch = json!([
        { "type": "tool.start", "data": { "tool_name": "search" } },
        { "event_type": "stage_change", "data": { "old_stage": "a" } },
    ]);
    let refused = hub.post("/runs/r/events", batch.to_string());
    refused.is_problem(422, "INVALID_EVENT");
    let problem = refused.json();
    assert_eq!(problem["index"], 1);
    assert!(problem["detail"].as_str().unwrap().contains("\"to_stage\" is missing"), "{problem}");
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
    // What fits passes as it is, and so does what nobody knows.
    let stage = json!({ "old_stage": "a", "new_stage": "b", "why": 1.5 });
    let told = hub.publish(
        "r",
        &json!([
            { "type": "stage.change", "data": stage },
            { "type": "llm.stream", "data": { "delta": "x" } },
            { "type": "made.up", "data": 7 },
            { "event_type": "custom", "data": [1] },
            { "type": "lifecycle.completed" },
        ]),
    );
    assert_eq!((&told["count"], &hub.history("r")[0]["data"]), (&json!(5), &stage));
}

fn a_version_is_kept_and_shown_where_given(setup: Setup) {
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish("r", &json!({ "type": "a.b", "data": 1, "version": 2, "event_id": "k" }));
    hub.publish("r", &json!({ "type": "a.b", "data": 1, "version": null }));
    let (live, history) = ([stream.event().1, stream.event().1], hub.history("r"));
    assert_eq!(live[..], history[..]);
    assert_eq!((&live[0]["version"], live[1].get("version")), (&json!(2), None));
    // It is part of what the event says.
    let again = hub.post("/runs/r/events", live[0].to_string());
    assert_eq!((again.status, &again.json()["events"][0]["sequence"]), (200, &json!(1)));
    let other = r#"{"type":"a.b","data":1,"version":3,"event_id":"k"}"#;
    hub.post("/runs/r/events", other).is_problem(422, "EVENT_ID_REUSED");
    for bad in ["0", "-1", "1.5", "\"2\"", "true", "4294967296"] {
        let refused = hub.post("/runs/r/events", format!(r#"{{"type":"a.b","version":{bad}}}"#));
        refused.is_problem(422, "INVALID_EVENT");
        assert!(refused.json()["detail"].as_str().unwrap().contains("\"version\""));
    }
    if setup.redis.is_some() {
        let entries: Vec<(String, Vec<String>)> =
            setup.redis_server().command(&["XRANGE", "run:r:events", "-", "+"]);
        assert_eq!(entries[0].1[entries[0].1.len() - 4..], ["event_id", "k", "version", "2"]);
        // Another program's odd one is left out, and breaks nothing.
        let _: String = setup.redis_server().command(&[
            "XADD",
            "run:r:events",
            "*",
            "event_category",
            "a",
            "event_action",
            "b",
            "version",
            "v2",
        ]);
        assert_eq!(stream.event().1.get("version"), None);
    }
}
