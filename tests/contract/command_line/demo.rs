//! `runhub demo`.

use super::{address, fails, lines};
use crate::common::{Hub, Setup, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

/// Checks that the run is a whole play: what a reader of it relies on.
#[track_caller]
fn is_whole(hub: &Hub, run: &str) {
    let events = hub.history(run);
    let kind = |event: &Value| {
        let part = |name: &str| event["event"][name].as_str().unwrap().to_owned();
        format!("{}.{}", part("category"), part("action"))
    };
    let of = |wanted: &str| events.iter().filter(|e| kind(e) == wanted).collect::<Vec<_>>();
    let sequences: Vec<_> = events.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(kind(&events[0]), "lifecycle.started");

    let stages: Vec<_> = of("stage.change").iter().map(|e| e["data"]["to_stage"].clone()).collect();
    assert_eq!(stages, ["requirement", "design", "development", "testing"]);
    let agents: BTreeSet<_> =
        events.iter().map(|e| e["source"]["agent_name"].as_str().unwrap()).collect();
    let team = ["Architect", "Boss", "Engineer", "Product Manager", "Project Manager", "QA"];
    assert_eq!(agents, BTreeSet::from(team));
    let nodes = |kind| of(kind).iter().map(|e| e["data"]["node_name"].clone()).collect::<Vec<_>>();
    assert_eq!(nodes("node.start"), nodes("node.end"));

    let mut deltas = BTreeMap::<&str, String>::new();
    for event in of("llm.stream") {
        let text = event["data"]["content"].as_str().unwrap();
        *deltas.entry(event["message_id"].as_str().unwrap()).or_default() += text;
    }
    let messages = of("message.complete");
    let whole = messages.iter().map(|event| {
        let text = event["data"]["content"].as_str().unwrap().to_owned();
        (event["message_id"].as_str().unwrap(), text)
    });
    assert_eq!(
        whole.collect::<BTreeMap<_, _>>(),
        deltas,
        "the deltas of each message are its text"
    );

    let (calls, ends) = (of("tool.start"), of("tool.end"));
    let failed =
        ends.iter().position(|e| e["data"]["success"] == false).expect("a tool that fails");
    assert_eq!(calls[failed]["data"], calls[failed + 1]["data"], "it is called again");
    assert_eq!(ends[failed + 1]["data"]["success"], true);

    let last = events.last().unwrap();
    assert_eq!(kind(last), "lifecycle.completed");
    let told = &last["data"]["statistics"];
    let counted = json!([events.len(), of("llm.stream").len(), messages.len(), calls.len(), 1]);
    let keys = ["events", "tokens", "messages", "tool_calls", "tool_failures"];
    assert_eq!(Value::from(keys.map(|key| told[key].clone()).to_vec()), counted);
    assert_eq!(hub.get(&format!("/runs/{run}")).json()["status"], "completed");
}

#[test]
fn a_team_plays_its_run_to_the_end() {
    let setup = Setup::embedded().set("EMBEDDED__SYNC", "everysec");
    let hub = setup.hub();
    let url = address(&hub);
    let said =
        lines(&setup, &["demo", "--runs", "2", "--speed", "1000"], &[("RUNHUB_URL", url.as_str())]);
    let runs: Vec<&str> = said
        .iter()
        .filter_map(|line| line.strip_prefix("playing "))
        .map(|rest| rest.split_once(';').unwrap().0)
        .collect();
    assert_eq!(runs.len(), 2, "{said:?}");
    for run in runs {
        assert!(run.starts_with("demo-"), "{run}");
        assert!(said.contains(&format!("  runhub tail {run} --url {url}")), "{said:?}");
        assert!(
            said.iter().any(|line| line.starts_with(&format!("{run} completed: "))),
            "{said:?}"
        );
        is_whole(&hub, run);
    }
    for bad in ["0", "-1", "fast", "NaN", "inf"] {
        fails(&setup, &["demo", "--url", &url, &format!("--speed={bad}")], &[], 2, "--help");
    }
    fails(&setup, &["demo", "--runs", "0"], &[], 2, "--help");
    fails(&setup, &["demo", "--url", "http://127.0.0.1:1"], &[], 1, "cannot reach a hub");
}

#[test]
fn a_demo_outlives_its_hub_with_nothing_lost_and_nothing_twice() {
    let setup = Setup::embedded().set("EMBEDDED__SYNC", "everysec");
    let mut hub = setup.hub();
    let mut demo = setup.command();
    demo.args(["demo", "--speed", "20", "--url", &address(&hub)]);
    let mut demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let run = first.strip_prefix("playing ").unwrap().split_once(';').unwrap().0.to_owned();
    until("it is in the middle of its play", || {
        let length = hub.get(&format!("/runs/{run}")).json()["length"].as_u64();
        length.is_some_and(|length| length > 50).then_some(())
    });
    let port = hub.port;
    hub.kill();
    let mut said = BufReader::new(demo.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains(&run) && line.contains("sending again"), "{line}");
    let hub = setup.hub_at(port);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{rest}");
    is_whole(&hub, &run);
}
