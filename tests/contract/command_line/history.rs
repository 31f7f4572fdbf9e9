//! `runhub history`.

use super::{address, fails, lines};
use crate::common::{Request, Setup};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

fn numbers(lines: &[String]) -> Vec<u64> {
    let event = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    lines.iter().map(|line| event(line)["data"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn history_prints_what_the_hub_has_over_all_pages() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let url = address(&hub);
    let url = [("RUNHUB_URL", url.as_str())];
    // More than two of the pages that the command asks for.
    for first in [1, 1001, 2001] {
        hub.publish_numbers("r", first, if first == 2001 { 100 } else { 1000 });
    }
    let all = lines(&setup, &["history", "r", "--json"], &url);
    assert_eq!(numbers(&all), (1..=2100).collect::<Vec<_>>());
    let path = "/runs/r/events";
    let told = hub.send(Request::new("GET", path).header("accept", "application/x-ndjson"));
    assert!(told.text().lines().eq(all.iter()), "the lines are the hub's own, byte for byte");

    let some = lines(&setup, &["history", "r", "--json", "--limit", "1005"], &url);
    assert_eq!(numbers(&some), (1..=1005).collect::<Vec<_>>());
    let newest = lines(&setup, &["history", "r", "--json", "--reverse", "--limit", "1500"], &url);
    assert_eq!(numbers(&newest), (601..=2100).rev().collect::<Vec<_>>());
    let id = |line: &String| {
        serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let behind = id(&all[599]);
    let rest = lines(&setup, &["history", "r", "--json", "--after", &behind], &url);
    assert_eq!(numbers(&rest), (601..=2100).collect::<Vec<_>>());
    let rest = lines(&setup, &["history", "r", "--json", "--reverse", "--after", &behind], &url);
    assert_eq!(numbers(&rest), (601..=2100).rev().collect::<Vec<_>>());
}

#[test]
fn history_is_readable_and_filtered() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let url = address(&hub);
    let url = [("RUNHUB_URL", url.as_str())];
    let source = json!({ "agent_id": "r1", "agent_name": "researcher" });
    let odd = "two\nlines \u{1b}[31m";
    hub.publish(
        "r",
        &json!({ "type": "llm.stream", "source": source, "data": { "content": odd } }),
    );
    let failed = json!({ "tool_name": "search", "success": false, "error": "late" });
    hub.publish("r", &json!({ "type": "tool.end", "data": failed }));
    let shown = lines(&setup, &["history", "r"], &url);
    assert!(
        shown[0].ends_with(r"    1 researcher       llm.stream       two\nlines \u{1b}[31m"),
        "{shown:?}"
    );
    assert!(shown[1].ends_with(" tool.end         search failed: late"), "{shown:?}");
    assert_eq!(lines(&setup, &["history", "r", "--agent", "researcher"], &url), shown[..1]);
    assert_eq!(lines(&setup, &["history", "r", "--types", "tool.*"], &url), shown[1..]);
    fails(&setup, &["history", "nobody"], &url, 1, "the hub answered RUN_NOT_FOUND");
    fails(&setup, &["history", "r", "--types", "X"], &url, 2, "INVALID_QUERY");
    fails(&setup, &["history", "r", "--after", "x"], &url, 2, "--help");
    fails(&setup, &["history", "a/b"], &url, 2, "--help");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    // Far more than a pipe holds.
    for first in [1, 1001] {
        hub.publish_numbers("r", first, 1000);
    }
    let mut history = setup.command();
    history.args(["history", "r", "--json", "--url", &address(&hub)]);
    let mut history = history.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(history.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let mut said = String::new();
    history.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((history.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
