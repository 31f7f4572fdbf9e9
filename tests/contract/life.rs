//! The life of a run: status, end, expiry, return.

use crate::common::{Request, Setup, on_both_stores, until};
use serde_json::{Value, json};

on_both_stores!(
    terminal_events_set_the_status,
    started_takes_the_end_back,
    an_expired_run_answers_410_then_404,
    expiry_is_set_by_hand,
    an_event_to_an_expired_run_begins_anew,
    terminal_types_are_configured,
);

fn terminal_events_set_the_status(setup: Setup) {
    let hub = setup.hub();
    for (kind, status) in [
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("finish", "finished"),
    ] {
        hub.publish(kind, &json!({ "type": "agent.start" }));
        let run = hub.get(&format!("/runs/{kind}")).json();
        assert_eq!(
            (&run["status"], &run["ended_at"], &run["expires_in"]),
            (&json!("running"), &Value::Null, &Value::Null)
        );
        hub.publish(kind, &json!({ "type": format!("lifecycle.{kind}") }));
        let run = hub.get(&format!("/runs/{kind}")).json();
        assert_eq!(run["status"], status);
        assert_eq!(run["ended_at"], run["updated_at"]);
        let left = run["expires_in"].as_u64().unwrap();
        assert!((86_300..=86_400).contains(&left), "{left}");
    }
}

fn started_takes_the_end_back(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!([{ "type": "lifecycle.started" }, { "type": "lifecycle.failed" }]));
    assert_eq!(hub.get("/runs/r").json()["status"], "failed");
    hub.publish("r", &json!({ "type": "lifecycle.started" }));
    let run = hub.get("/runs/r").json();
    assert_eq!(
        (&run["status"], &run["ended_at"], &run["expires_in"]),
        (&json!("running"), &Value::Null, &Value::Null)
    );
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    hub.publish("r", &json!({ "type": "a.b" }));
    assert_eq!(stream.sequences(1), [4]);
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    assert_eq!(stream.sequences(1), [5]);
    stream.closes("run_finished");
}

fn an_expired_run_answers_410_then_404(setup: Setup) {
    let setup = setup.set("RETENTION__AFTER_END", "1s").set("RETENTION__TOMBSTONE", "2s");
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    until("the run expires", || (hub.get("/runs/r").status == 410).then_some(()));
    hub.get("/runs/r").is_problem(410, "RUN_EXPIRED");
    hub.get("/runs/r/events").is_problem(410, "RUN_EXPIRED");
    hub.get("/runs/r/events/stream").is_problem(410, "RUN_EXPIRED");
    assert_eq!(hub.get("/runs").json()["runs"], json!([]));
    until("the run is forgotten", || (hub.get("/runs/r").status == 404).then_some(()));
    hub.get("/runs/r/events").is_problem(404, "RUN_NOT_FOUND");
}

fn expiry_is_set_by_hand(setup: Setup) {
    let hub = setup.hub();
    let put = |body: &str| hub.send(Request::new("PUT", "/runs/r/expiry").json(body));
    put(r#"{"seconds":5}"#).is_problem(404, "RUN_NOT_FOUND");
    hub.publish("r", &json!({ "type": "a.b" }));
    let answer = put(r#"{"seconds":1000}"#);
    assert_eq!(
        (answer.status, &answer.json()["expires_in"], &answer.json()["run_id"]),
        (200, &json!(1000), &json!("r"))
    );
    assert_eq!(hub.get("/runs/r").json()["status"], "running");
    for bad in [
        "",
        "{}",
        r#"{"seconds":0}"#,
        r#"{"seconds":-1}"#,
        r#"{"seconds":"5"}"#,
        r#"{"seconds":1.5}"#,
        r#"{"seconds":5,"x":1}"#,
        "5",
    ] {
        put(bad).is_problem(400, "INVALID_JSON");
    }
    assert_eq!(put(r#"{"seconds":1}"#).status, 200);
    until("the run expires", || (hub.get("/runs/r").status == 410).then_some(()));
    put(r#"{"seconds":5}"#).is_problem(410, "RUN_EXPIRED");
}

fn an_event_to_an_expired_run_begins_anew(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    hub.expire("r");
    let told = hub.publish("r", &json!({ "type": "lifecycle.started" }));
    // Numbers go on: a reader with an old cursor must not take new events for known ones.
    assert_eq!(told["events"][0]["sequence"], 4);
    let run = hub.get("/runs/r").json();
    assert_eq!(
        (&run["status"], &run["length"], &run["expires_in"]),
        (&json!("running"), &json!(1), &Value::Null)
    );
    assert_eq!(hub.follow("/runs/r/events/stream").sequences(1), [4]);
}

fn terminal_types_are_configured(setup: Setup) {
    let setup = setup.set("RETENTION__TERMINAL", "workflow.done,lifecycle.failed");
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    assert_eq!(hub.get("/runs/r").json()["status"], "running");
    hub.publish("r", &json!({ "type": "workflow.done" }));
    assert_eq!(hub.get("/runs/r").json()["status"], "finished");
}
