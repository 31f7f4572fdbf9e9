//! Several runs on one stream: every event of each, in its order, and a cursor that resumes all of them.

use crate::common::{Frame, Hub, Request, Setup, Stream, on_both_stores};
use serde_json::{Value, json};
use std::collections::HashMap;

on_both_stores!(
    every_run_comes_in_its_order_and_resumes_exactly,
    filters_framing_and_runs_that_are_over,
    a_run_that_begins_again_is_followed_on,
    a_run_that_is_deleted_or_expires_is_followed_from_its_new_beginning,
    what_had_expired_when_the_stream_was_opened_is_followed_with_a_gap,
    a_beginning_that_a_filter_hides_keeps_the_stream_open,
);

/// The next events: their run, their number, and the cursor behind each.
fn events(stream: &mut Stream, count: usize) -> Vec<(String, u64, String)> {
    let mut events = Vec::new();
    for _ in 0..count {
        let (cursor, event) = stream.event();
        let run = event["run_id"].as_str().unwrap().to_owned();
        events.push((run, event["sequence"].as_u64().unwrap(), cursor));
    }
    events
}

fn by_run(events: &[(String, u64, String)]) -> HashMap<&str, Vec<u64>> {
    let mut runs: HashMap<&str, Vec<u64>> = HashMap::new();
    for (run, sequence, _) in events {
        runs.entry(run).or_default().push(*sequence);
    }
    runs
}

/// From whatever point it is resumed: all that comes later, once.
fn resumes_exactly(
    hub: &Hub,
    path: &str,
    seen: &[(String, u64, String)],
    expected: &HashMap<&str, Vec<u64>>,
) {
    for cut in 0..seen.len() {
        let mut resumed = hub.follow_from(path, &seen[cut].2);
        let rest = events(&mut resumed, seen.len() - cut - 1);
        let all: Vec<_> = seen[..=cut].iter().chain(&rest).cloned().collect();
        assert_eq!(by_run(&all), *expected, "cut at {cut}");
    }
}

fn every_run_comes_in_its_order_and_resumes_exactly(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("a", 1, 3);
    hub.publish_numbers("b", 1, 2);
    // One of them is not known yet; the order in the address does not matter.
    let mut stream = hub.follow("/events/stream?runs=c,a,b");
    let mut seen = events(&mut stream, 5);
    hub.publish_numbers("c", 1, 2);
    hub.publish_numbers("a", 4, 1);
    seen.extend(events(&mut stream, 3));
    let expected: HashMap<&str, Vec<u64>> =
        HashMap::from([("a", vec![1, 2, 3, 4]), ("b", vec![1, 2]), ("c", vec![1, 2])]);
    assert_eq!(by_run(&seen), expected);
    resumes_exactly(&hub, "/events/stream?runs=a,b,c", &seen, &expected);
    hub.publish_numbers("b", 3, 1);
    let last = &events(&mut stream, 1)[0].2;
    let mut live = hub.follow_from("/events/stream?runs=a,b,c", last);
    hub.publish_numbers("a", 5, 1);
    assert_eq!(by_run(&events(&mut live, 1)), HashMap::from([("a", vec![5])]));
}

fn filters_framing_and_runs_that_are_over(setup: Setup) {
    let hub = setup.hub();
    hub.publish("a", &json!([{ "type": "llm.stream" }, { "type": "tool.end" }]));
    hub.publish("b", &json!([{ "type": "tool.end" }, { "type": "lifecycle.completed" }]));
    let mut tools = hub.follow("/events/stream?runs=a,b&types=tool.*&framing=message");
    for _ in 0..2 {
        let Frame::Event { name, data, .. } = tools.next_real() else { panic!("an event") };
        assert_eq!((name, &data["event"]["category"]), (None, &json!("tool")));
    }
    // It goes on for the one that has not ended, and ends with it.
    hub.publish("a", &json!([{ "type": "tool.end" }, { "type": "lifecycle.failed" }]));
    assert_eq!(tools.event().1["run_id"], "a");
    tools.closes("run_finished");
    let mut all = hub.follow("/events/stream?runs=a,b");
    let cursor = events(&mut all, 6).pop().unwrap().2;
    all.closes("run_finished");
    let over = Request::new("GET", "/events/stream?runs=a,b").header("last-event-id", &cursor);
    assert_eq!(over.send(hub.port).status, 204);
}

fn a_run_that_begins_again_is_followed_on(setup: Setup) {
    let hub = setup.hub();
    let lifecycle = |run, action: &str| {
        hub.publish(run, &json!({ "type": format!("lifecycle.{action}") }));
    };
    hub.publish_numbers("a", 1, 1);
    lifecycle("b", "completed");
    let mut stream = hub.follow("/events/stream?runs=a,b");
    let cursor = events(&mut stream, 2).pop().unwrap().2;
    // It was over when this one came.
    let mut resumed = hub.follow_from("/events/stream?runs=a,b", &cursor);
    lifecycle("b", "started");
    hub.publish_numbers("b", 3, 1);
    lifecycle("b", "failed");
    for stream in [&mut stream, &mut resumed] {
        assert_eq!(by_run(&events(stream, 3)), HashMap::from([("b", vec![2, 3, 4])]));
    }
    lifecycle("a", "completed");
    // Both are over.
    for mut stream in [stream, resumed] {
        assert_eq!(by_run(&events(&mut stream, 1)), HashMap::from([("a", vec![2])]));
        stream.closes("run_finished");
    }
}

fn a_run_that_is_deleted_or_expires_is_followed_from_its_new_beginning(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("a", 1, 1);
    let mut stream = hub.follow("/events/stream?runs=a,deleted,expired");
    events(&mut stream, 1);
    hub.publish_numbers("deleted", 1, 2);
    hub.publish("expired", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    events(&mut stream, 4);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/deleted")).status, 204);
    hub.expire("expired");
    hub.publish_numbers("deleted", 1, 1);
    assert_eq!(by_run(&events(&mut stream, 1)), HashMap::from([("deleted", vec![1])]));
    // Who had all of it is told of no gap.
    hub.publish_numbers("expired", 3, 1);
    let seen = events(&mut stream, 1);
    assert_eq!(by_run(&seen), HashMap::from([("expired", vec![3])]));
    // Nor is anybody who comes back with positions of the new beginnings.
    let mut resumed = hub.follow_from("/events/stream?runs=a,deleted,expired", &seen[0].2);
    hub.publish_numbers("deleted", 2, 1);
    assert_eq!(by_run(&events(&mut resumed, 1)), HashMap::from([("deleted", vec![2])]));
}

fn what_had_expired_when_the_stream_was_opened_is_followed_with_a_gap(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("a", 1, 1);
    hub.publish("b", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    let mut stream = hub.follow("/events/stream?runs=a,b");
    let seen = events(&mut stream, 3);
    let of_b = seen.iter().position(|(run, ..)| run == "b").unwrap();
    hub.expire("b");
    let mut resumed = hub.follow_from("/events/stream?runs=a,b", &seen[of_b].2);
    hub.publish_numbers("b", 3, 1);
    let mut next = resumed.next_real();
    if matches!(&next, Frame::Event { data, .. } if data["run_id"] == "a") {
        // It may not have had that.
        next = resumed.next_real();
    }
    let Frame::Control { name, data } = next else { panic!("a gap, not {next:?}") };
    assert_eq!(
        (name.as_str(), &data["run_id"], &data["reason"]),
        ("gap", &json!("b"), &json!("reset"))
    );
    assert_eq!(by_run(&events(&mut resumed, 1)), HashMap::from([("b", vec![3])]));
}

fn a_beginning_that_a_filter_hides_keeps_the_stream_open(setup: Setup) {
    let hub = setup.hub();
    let say = |run, kind: &str| drop(hub.publish(run, &json!({ "type": kind })));
    hub.publish_numbers("b", 1, 1);
    let mut stream = hub.follow("/events/stream?runs=a,b&types=tool.*");
    say("a", "tool.start");
    assert_eq!(stream.event().1["run_id"], "a");
    for kind in ["lifecycle.completed", "lifecycle.started"] {
        say("a", kind);
    }
    say("b", "tool.end");
    assert_eq!(stream.event().1["run_id"], "b");
    say("b", "lifecycle.completed");
    say("a", "tool.end");
    assert_eq!(stream.event().1["run_id"], "a");
    say("a", "lifecycle.completed");
    stream.closes("run_finished");
}

#[test]
fn a_run_that_is_over_and_rolled_back_is_told_again_behind_a_gap() {
    let setup = Setup::redis();
    let (hub, redis) = (setup.hub(), setup.redis_server());
    hub.publish_numbers("a", 1, 1);
    hub.publish("b", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    let mut stream = hub.follow("/events/stream?runs=a,b");
    events(&mut stream, 3);
    redis.roll_back("b");
    let (name, gap) = stream.control();
    assert_eq!(
        (name.as_str(), &gap["run_id"], &gap["oldest"]),
        ("gap", &json!("b"), &json!("1000-0"))
    );
    assert_eq!(by_run(&events(&mut stream, 1)), HashMap::from([("b", vec![1])]));
}

#[test]
fn what_comes_behind_an_end_waits_in_the_store_for_a_slow_reader() {
    let setup = Setup::redis().set("SUBSCRIBE__OUTBOX", "256KiB");
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    let mut stream = hub.follow("/events/stream?runs=r,open");
    assert_eq!(events(&mut stream, 1)[0].1, 1);
    let big = json!({ "type": "a.b", "data": { "text": "x".repeat(100_000) } });
    hub.publish("r", &big);
    let before = hub.memory();
    (0..400).for_each(|_| drop(hub.publish("r", &big)));
    let grown = hub.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more");
    let seen = events(&mut stream, 401);
    assert_eq!(by_run(&seen)["r"], (2..=402).collect::<Vec<_>>());
}

#[test]
fn a_gap_says_in_which_run() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    hub.publish_numbers("a", 1, 2);
    hub.publish_numbers("b", 1, 2);
    let mut stream = hub.follow("/events/stream?runs=a,b");
    let cursor = events(&mut stream, 4).pop().unwrap().2;
    drop(stream);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/b")).status, 204);
    let mut resumed = hub.follow_from("/events/stream?runs=a,b", &cursor);
    hub.publish_numbers("b", 1, 1);
    let (name, gap) = resumed.control();
    assert_eq!(
        (name.as_str(), &gap["run_id"], &gap["reason"]),
        ("gap", &json!("b"), &json!("reset"))
    );
    assert_eq!(by_run(&events(&mut resumed, 1)), HashMap::from([("b", vec![1])]));
    for run in ["a", "b"] {
        assert_eq!(hub.send(Request::new("DELETE", &format!("/runs/{run}"))).status, 204);
    }
    resumed.closes("run_deleted");
}

#[test]
fn who_follows_live_gets_nothing_of_the_past_when_it_comes_back() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    hub.publish("over", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    hub.publish_numbers("on", 1, 2);
    let mut live = hub.follow("/events/stream?runs=on,over&from=live");
    hub.publish_numbers("on", 3, 1);
    let (_, sequence, cursor) = events(&mut live, 1).remove(0);
    assert_eq!(sequence, 3);
    let mut resumed = hub.follow_from("/events/stream?runs=on,over", &cursor);
    hub.publish_numbers("on", 4, 1);
    assert_eq!(by_run(&events(&mut resumed, 1)), HashMap::from([("on", vec![4])]));
}

#[test]
fn redis_goes_and_comes_and_every_run_goes_on() {
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    for run in ["a", "b"] {
        hub.publish_numbers(run, 1, 1);
    }
    let mut stream = hub.follow("/events/stream?runs=a,b");
    let mut seen = events(&mut stream, 2);
    setup.redis.as_mut().unwrap().kill();
    for run in ["a", "b"] {
        hub.publish_spooled(run, &json!({ "type": "a.b" }));
    }
    setup.redis.as_mut().unwrap().start_again();
    seen.extend(events(&mut stream, 2));
    hub.until_mode("normal");
    hub.publish_numbers("a", 3, 1);
    seen.extend(events(&mut stream, 1));
    assert_eq!(by_run(&seen), HashMap::from([("a", vec![1, 2, 3]), ("b", vec![1, 2])]));
    assert_eq!(stream.modes, ["degraded", "recovered"], "said once, not once a run");
    // Who comes back while nobody can be asked is still where it was, in every run.
    let cursor = seen.pop().unwrap().2;
    setup.redis.as_mut().unwrap().kill();
    hub.publish_spooled("a", &json!({ "type": "a.b" }));
    let mut resumed = hub.follow_from("/events/stream?runs=a,b", &cursor);
    setup.redis.as_mut().unwrap().start_again();
    let (run, sequence, cursor) = events(&mut resumed, 1).remove(0);
    assert_eq!((run.as_str(), sequence), ("a", 4));
    hub.until_mode("normal");
    let mut again = hub.follow_from("/events/stream?runs=a,b", &cursor);
    hub.publish_numbers("b", 3, 1);
    assert_eq!(by_run(&events(&mut again, 1)), HashMap::from([("b", vec![3])]));
}

#[test]
fn a_stream_that_opens_while_nobody_can_be_asked_resumes_exactly_from_any_event() {
    let mut setup = Setup::redis();
    let hub = setup.hub();
    for run in ["a", "b"] {
        hub.publish_numbers(run, 1, 5);
    }
    setup.redis.as_mut().unwrap().kill();
    let mut stream = hub.follow("/events/stream?runs=a,b");
    setup.redis.as_mut().unwrap().start_again();
    let seen = events(&mut stream, 10);
    let expected = HashMap::from([("a", vec![1, 2, 3, 4, 5]), ("b", vec![1, 2, 3, 4, 5])]);
    assert_eq!(by_run(&seen), expected);
    hub.until_mode("normal");
    resumes_exactly(&hub, "/events/stream?runs=a,b", &seen, &expected);
}

#[test]
fn what_does_not_fit_is_refused() {
    let setup = Setup::embedded().set("SUBSCRIBE__HEARTBEAT", "100ms");
    let hub = setup.hub();
    let names = |count: u32| (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>().join(",");
    for (query, status, code) in [
        (String::new(), 400, "INVALID_QUERY"),
        ("?runs=".to_owned(), 400, "INVALID_QUERY"),
        ("?runs=a,,b".to_owned(), 400, "INVALID_RUN_ID"),
        ("?runs=a,b%0A".to_owned(), 400, "INVALID_RUN_ID"),
        (format!("?runs={}", names(129)), 400, "INVALID_QUERY"),
        ("?runs=a&runs=b".to_owned(), 400, "INVALID_QUERY"),
        ("?runs=a,b&last_event_id=1-1".to_owned(), 400, "INVALID_EVENT_ID"),
        ("?runs=a,b&must_exist=true".to_owned(), 404, "RUN_NOT_FOUND"),
    ] {
        hub.get(&format!("/events/stream{query}")).is_problem(status, code);
    }
    hub.publish_numbers("a", 1, 1);
    let cursor = events(&mut hub.follow("/events/stream?runs=a,b"), 1).pop().unwrap().2;
    let other = hub.get(&format!("/events/stream?runs=a,c&last_event_id={cursor}"));
    other.is_problem(400, "INVALID_EVENT_ID");
    assert!(other.text().contains("another set of runs"), "{}", other.text());
    // As many as there may be, and silence is kept open.
    let mut stream = hub.follow(&format!("/events/stream?runs={}", names(128)));
    hub.publish_numbers("r127", 1, 1);
    assert_eq!(by_run(&events(&mut stream, 1)), HashMap::from([("r127", vec![1])]));
    let _: Value = hub.get("/health/ready").json();
}
