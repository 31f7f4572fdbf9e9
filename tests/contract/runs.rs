//! The list of runs and a run's own page.

use crate::common::{Setup, on_both_stores, until};
use runhub::event::Timestamp;
use serde_json::{Value, json};

on_both_stores!(the_list_is_by_newest_activity, a_run_shows_itself);

fn the_list_is_by_newest_activity(setup: Setup) {
    let hub = setup.hub();
    assert_eq!(hub.get("/runs").json(), json!({ "runs": [], "next_cursor": null }));
    for n in 0..25 {
        hub.publish(&format!("run-{n:02}"), &json!({ "type": "a.b" }));
    }
    // Of those that were active in the same millisecond the greater name comes first.
    let then = Timestamp::now().as_ms();
    until("the clock moves on", || (Timestamp::now().as_ms() > then).then_some(()));
    hub.publish("run-03", &json!({ "type": "lifecycle.completed" }));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = hub.get(&format!("/runs?limit=7{cursor}")).json();
        let runs = page["runs"].as_array().unwrap();
        assert!(runs.len() <= 7);
        seen.extend(runs.iter().map(|r| r["run_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut expected: Vec<String> =
        (0..25).rev().filter(|n| *n != 3).map(|n| format!("run-{n:02}")).collect();
    expected.insert(0, "run-03".to_owned());
    assert_eq!(seen, expected);
    let completed = hub.get("/runs?status=completed").json();
    let names: Vec<&Value> =
        completed["runs"].as_array().unwrap().iter().map(|r| &r["run_id"]).collect();
    assert_eq!(names, [&json!("run-03")]);
    assert_eq!(
        hub.get("/runs?status=running&limit=1000").json()["runs"].as_array().unwrap().len(),
        24
    );
}

fn a_run_shows_itself(setup: Setup) {
    let hub = setup.hub();
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
    let told = hub.publish_numbers("r", 1, 3);
    let answer = hub.get("/runs/r");
    assert_eq!(answer.status, 200);
    let run = answer.json();
    let (created, updated) =
        (run["created_at"].as_str().unwrap(), run["updated_at"].as_str().unwrap());
    assert!(created <= updated && created.len() == 24, "{run}");
    assert_eq!(
        run,
        json!({ "run_id": "r", "status": "running", "length": 3, "first_id": told["events"][0]["id"],
            "last_id": told["events"][2]["id"], "last_sequence": 3, "created_at": created,
            "updated_at": updated, "ended_at": null, "expires_in": null, "subscribers": 0 })
    );
}
