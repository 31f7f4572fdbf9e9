//! Deltas folded for who comes late, and the transcript of a run.

use crate::common::{Request, Setup, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    who_comes_late_gets_one_event_a_message_and_then_single_ones,
    a_long_message_is_one_event,
    a_run_has_a_transcript,
);

fn delta(text: &str) -> Value {
    json!({ "type": "llm.stream", "message_id": "m", "source": { "agent_id": "a" }, "data": { "content": text } })
}

fn who_comes_late_gets_one_event_a_message_and_then_single_ones(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish("r", &json!([delta("He"), delta("l"), delta("lo"), { "type": "tool.start" }, delta("!"), delta("!")]));
    let mut stream = hub.follow("/runs/r/events/stream?deltas=folded");
    let (id, event) = stream.event();
    assert_eq!((&told["events"][2]["id"], &event["sequence"]), (&json!(id), &json!(3)));
    assert_eq!((&event["data"], &event["folded"]), (&json!({ "content": "Hello" }), &json!(3)));
    let (_, tool) = stream.event();
    assert_eq!((&tool["event"]["category"], tool.get("folded")), (&json!("tool"), None));
    let (last, event) = stream.event();
    assert_eq!((&event["data"]["content"], &event["folded"]), (&json!("!!"), &json!(2)));
    // Live ones come singly.
    hub.publish("r", &json!([delta("a"), delta("b")]));
    for text in ["a", "b"] {
        let (_, event) = stream.event();
        assert_eq!((&event["data"]["content"], event.get("folded")), (&json!(text), None));
    }
    // Resumed behind the folded one, and within it.
    let mut resumed = hub.follow_from("/runs/r/events/stream?deltas=folded", &last);
    assert_eq!(resumed.event().1["data"]["content"], "ab");
    let second = told["events"][1]["id"].as_str().unwrap();
    let mut within = hub.follow_from("/runs/r/events/stream?deltas=folded&types=llm.*", second);
    let (_, event) = within.event();
    // What the reader does not want separates nothing.
    assert_eq!((&event["data"]["content"], &event["folded"]), (&json!("lo!!ab"), &json!(5)));
    let mut single = hub.follow("/runs/r/events/stream?deltas=single");
    assert_eq!(single.event().1["data"]["content"], "He");
    hub.get("/runs/r/events/stream?deltas=some").is_problem(400, "INVALID_QUERY");
}

fn a_long_message_is_one_event(setup: Setup) {
    let hub = setup.hub();
    let mut expected = String::new();
    for part in 0..6 {
        let deltas: Vec<Value> = (0..500).map(|n| delta(&format!("{part}.{n} "))).collect();
        expected.extend((0..500).map(|n| format!("{part}.{n} ")));
        hub.publish("r", &deltas.into());
    }
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    let mut stream = hub.follow("/runs/r/events/stream?deltas=folded");
    let (_, event) = stream.event();
    assert_eq!((&event["data"]["content"], &event["folded"]), (&json!(expected), &json!(3000)));
    assert_eq!(stream.event().1["event"]["action"], "completed");
    stream.closes("run_finished");
}

fn a_run_has_a_transcript(setup: Setup) {
    let hub = setup.hub();
    hub.get("/runs/r/messages").is_problem(404, "RUN_NOT_FOUND");
    let told = hub.publish("r", &json!([
        { "type": "stage.change", "data": { "to_stage": "design" } },
        delta("Hel"), delta("lo"),
        { "type": "message.complete", "message_id": "m", "trace_id": "t", "source": { "agent_id": "a", "agent_name": "Ada" }, "data": { "content": "Hello", "role": "assistant" } },
        { "type": "message.complete", "message_id": "m", "data": { "content": "Hello" } },
        { "type": "message.complete", "source": { "agent_id": "b" }, "data": { "content": "Hi", "role": "user" } },
        { "type": "message.delta", "message_id": "n", "data": { "delta": "and" } },
    ]));
    let id = |index: usize| told["events"][index]["id"].clone();
    let page = hub.get("/runs/r/messages").json();
    assert_eq!(page["run_id"], "r");
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3, "{page}");
    assert_eq!(
        messages[0],
        json!({ "message_id": "m", "role": "assistant", "content": "Hello", "agent": "Ada", "node": null,
            "stage": "design", "trace_id": "t", "first_id": id(1), "last_id": id(3), "complete": true })
    );
    assert_eq!((&messages[1]["message_id"], &messages[1]["role"]), (&id(5), &json!("user")));
    assert_eq!((&messages[2]["content"], &messages[2]["complete"]), (&json!("and"), &json!(false)));
    // From where it ended: what was not complete comes again.
    assert_eq!(page["next_after"], id(5));
    hub.publish("r", &json!({ "type": "message.complete", "message_id": "n", "data": { "content": "and so on" } }));
    let next = page["next_after"].as_str().unwrap();
    let page = hub.get(&format!("/runs/r/messages?after={next}")).json();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(
        (messages.len(), &messages[0]["content"], &messages[0]["first_id"]),
        (1, &json!("and so on"), &id(6))
    );
    let next = page["next_after"].as_str().unwrap();
    let page = hub.get(&format!("/runs/r/messages?after={next}")).json();
    assert_eq!(
        (page["messages"].as_array().unwrap().len(), &page["next_after"]),
        (0, &json!(next))
    );
    let one = hub.get("/runs/r/messages?limit=1").json();
    assert_eq!((one["messages"].as_array().unwrap().len(), &one["next_after"]), (1, &id(3)));
    // What is being said is there however few were asked for, and not before the last page.
    hub.publish(
        "r",
        &json!({ "type": "message.delta", "message_id": "o", "data": { "delta": "now" } }),
    );
    let few =
        hub.get(&format!("/runs/r/messages?limit=1&after={}", id(3).as_str().unwrap())).json();
    assert_eq!(few["messages"].as_array().unwrap().len(), 1);
    let next = few["next_after"].as_str().unwrap();
    let rest = hub.get(&format!("/runs/r/messages?limit=1&after={next}")).json();
    let contents: Vec<_> = rest["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["content"].as_str().unwrap())
        .collect();
    assert_eq!(contents, ["and so on", "now"]);
    hub.get("/runs/r/messages?after=x").is_problem(400, "INVALID_EVENT_ID");
    hub.get("/runs/r/messages?limit=0").is_problem(400, "INVALID_QUERY");
    assert_eq!(hub.send(Request::new("POST", "/runs/r/messages").json("{}")).status, 405);
}

#[test]
fn foreign_messages_are_in_the_transcript() {
    let setup = Setup::redis();
    let hub = setup.hub();
    let add = |action: &str, data: &str| {
        let fields: [(&str, &[u8]); 4] = [
            ("source_agent_name", b"Bob"),
            ("event_category", b"message"),
            ("event_action", action.as_bytes()),
            ("data", data.as_bytes()),
        ];
        setup.redis_server().xadd("run:r:events", &fields)
    };
    add("delta", r#"{"delta":"He"}"#);
    add("complete", r#"{"content":"He did"}"#);
    add("complete", "not JSON");
    let page = hub.get("/runs/r/messages").json();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!((&messages[0]["agent"], &messages[0]["content"]), (&json!("Bob"), &json!("He did")));
    assert!(messages.iter().all(|message| message["complete"] == true), "{page}");
}
