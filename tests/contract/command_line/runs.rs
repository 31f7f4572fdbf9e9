//! `runhub runs`.

use super::{address, fails, lines};
use crate::common::Setup;
use serde_json::{Value, json};

#[test]
fn runs_are_a_table_with_the_last_active_first() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let url = address(&hub);
    let url = [("RUNHUB_URL", url.as_str())];
    assert_eq!(lines(&setup, &["runs"], &url).len(), 1, "a head alone");
    // Of those that were active in the same millisecond the greater name comes first.
    hub.publish_numbers("first", 1, 3);
    hub.publish("second", &json!({ "type": "lifecycle.completed" }));
    hub.publish("the-long-name-of-a-run", &json!({ "type": "agent.start" }));
    let _reader = hub.follow("/runs/first/events/stream");
    let table = lines(&setup, &["runs"], &url);
    let rows: Vec<Vec<&str>> = table.iter().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["RUN", "STATUS", "EVENTS"]);
    let told: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1], row[2], row[5])).collect();
    assert_eq!(
        told,
        [
            ("the-long-name-of-a-run", "running", "1", "0"),
            ("second", "completed", "1", "0"),
            ("first", "running", "3", "1"),
        ]
    );
    // Where a column begins does not depend on what stands before it.
    let column = table[0].find("STATUS").unwrap();
    assert!(table[1..].iter().all(|row| row[column..].starts_with(['r', 'c'])), "{table:?}");
    let ended = lines(&setup, &["runs", "--json", "--status", "completed"], &url);
    let ended: Vec<Value> = ended.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(ended.len() == 1 && ended[0]["run_id"] == "second", "{ended:?}");
    fails(&setup, &["runs", "--status", "odd"], &url, 2, "--help");
    let nobody = [("RUNHUB_URL", "http://127.0.0.1:1")];
    fails(&setup, &["runs"], &nobody, 1, "cannot reach a hub at http://127.0.0.1:1");
}

#[test]
fn runs_are_listed_over_all_pages() {
    let setup = Setup::embedded().set("EMBEDDED__SYNC", "everysec");
    let hub = setup.hub();
    let url = address(&hub);
    // More than the command asks for at a time.
    for n in 0..130 {
        hub.publish(&format!("r{n}"), &json!({ "type": "agent.start" }));
    }
    let list = |args: &[&str]| -> Vec<String> {
        let args = [&["runs", "--json", "--url", &url], args].concat();
        let run = |line: &String| {
            let run: Value = serde_json::from_str(line).unwrap();
            run["run_id"].as_str().unwrap().to_owned()
        };
        lines(&setup, &args, &[]).iter().map(run).collect()
    };
    let expected = |first: u32| (first..130).rev().map(|n| format!("r{n}")).collect::<Vec<_>>();
    // Runs of the same millisecond may stand in another order than they were made in.
    let sorted = |mut runs: Vec<String>| {
        runs.sort();
        runs
    };
    assert_eq!(sorted(list(&["--limit", "1000"])), sorted(expected(0)));
    assert_eq!((list(&[]).len(), list(&["--limit", "120"]).len()), (20, 120));
}
