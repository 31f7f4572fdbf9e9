//! History: pages both ways, ranges, lines.

use crate::common::{Answer, Hub, Request, Setup, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    pages_walk_the_whole_run,
    walking_backwards,
    ranges_are_inclusive,
    lines_stream_the_whole_range,
    a_filter_does_not_end_the_walk,
    an_empty_range_is_no_error,
    large_events_make_smaller_pages,
    an_answer_that_was_kept_is_what_the_run_holds,
);

fn sequences(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().unwrap();
    assert_eq!(page["count"], events.len());
    events.iter().map(|e| e["sequence"].as_u64().unwrap()).collect()
}

fn get(hub: &Hub, query: &str) -> Value {
    let answer = hub.get(&format!("/runs/r/events?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn pages_walk_the_whole_run(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1000);
    hub.publish_numbers("r", 1001, 345);
    let first = get(&hub, "");
    assert_eq!(
        (first["run_id"].as_str(), sequences(&first).len(), &first["has_more"]),
        (Some("r"), 1000, &json!(true))
    );
    let (mut seen, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let page = get(&hub, &format!("limit=100&start_id={from}"));
        seen.extend(sequences(&page));
        assert_eq!(page["has_more"], page["next_id"].is_string());
        match page["next_id"].as_str() {
            Some(next) => from = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (1..=1345).collect::<Vec<_>>());
    // Exactly as many as there are: no page more.
    let all = get(&hub, "limit=1345");
    assert_eq!((&all["has_more"], &all["next_id"]), (&json!(false), &Value::Null));
}

fn an_answer_that_was_kept_is_what_the_run_holds(setup: Setup) {
    let hub = setup.hub();
    // The same question each time, again and again: from the second time on answers this large are kept.
    let asked = |hub: &Hub, count: u64| {
        for query in ["limit=2000", "order=desc&limit=2000", "limit=400&types=task.*"] {
            for _ in 0..4 {
                let page = get(hub, query);
                let wanted = if query.starts_with("limit=400") { count.min(400) } else { count };
                assert_eq!(page["count"], wanted, "{query}");
            }
        }
    };
    for (from, count) in [(1, 500), (501, 1), (502, 498)] {
        let events: Vec<Value> = (from..from + count)
            .map(|n| json!({"type": "task.progress", "data": {"n": n, "text": "x".repeat(100)}}))
            .collect();
        hub.publish("r", &json!(events));
        asked(&hub, from + count - 1);
    }
    if let Some(redis) = &setup.redis {
        let _: String = redis.command(&[
            "XADD",
            "run:r:events",
            "*",
            "event_category",
            "task",
            "event_action",
            "progress",
        ]);
        asked(&hub, 1000);
        let _: i64 = redis.command(&["XTRIM", "run:r:events", "MAXLEN", "990"]);
        asked(&hub, 990);
        let last = get(&hub, "order=desc&limit=3")["events"][1]["id"].as_str().unwrap().to_owned();
        let _: i64 = redis.command(&["XDEL", "run:r:events", &last]);
        asked(&hub, 989);
    }
    assert_eq!(hub.send(Request::new("DELETE", "/runs/r")).status, 204);
    assert_eq!(hub.get("/runs/r/events?limit=2000").status, 404);
    let events: Vec<Value> = (0..700)
        .map(|n| json!({"type": "task.started", "data": "y".repeat(100 + n % 3)}))
        .collect();
    hub.publish("r", &json!(events));
    asked(&hub, 700);
}

fn walking_backwards(setup: Setup) {
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 50);
    let first = get(&hub, "order=desc&limit=20");
    assert_eq!(sequences(&first), (31..=50).rev().collect::<Vec<_>>());
    let next = first["next_id"].as_str().unwrap();
    let second = get(&hub, &format!("order=desc&limit=20&start_id={next}"));
    assert_eq!(sequences(&second), (11..=30).rev().collect::<Vec<_>>());
    let next = second["next_id"].as_str().unwrap();
    let third = get(&hub, &format!("order=desc&limit=20&start_id={next}"));
    assert_eq!((sequences(&third), &third["has_more"]), ((1..=10).rev().collect(), &json!(false)));
}

fn ranges_are_inclusive(setup: Setup) {
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 10);
    let id = |sequence: usize| told["events"][sequence - 1]["id"].as_str().unwrap();
    let (third, seventh) = (id(3), id(7));
    assert_eq!(
        sequences(&get(&hub, &format!("start_id={third}&end_id={seventh}"))),
        [3, 4, 5, 6, 7]
    );
    assert_eq!(
        sequences(&get(&hub, &format!("start_id={third}&end_id={seventh}&order=desc"))),
        [7, 6, 5, 4, 3]
    );
    assert_eq!(sequences(&get(&hub, &format!("start_id={seventh}"))), [7, 8, 9, 10]);
    assert_eq!(sequences(&get(&hub, &format!("start_id={seventh}&order=desc"))), [10, 9, 8, 7]);
    assert_eq!(sequences(&get(&hub, &format!("after={third}&limit=2"))), [4, 5]);
    assert_eq!(sequences(&get(&hub, &format!("start_id=-&end_id={third}"))), [1, 2, 3]);
    assert_eq!(sequences(&get(&hub, &format!("start_id={third}&end_id=%2B&limit=1"))), [3]);
    assert_eq!(sequences(&get(&hub, "limit=10000")).len(), 10);
    assert_eq!(sequences(&get(&hub, &format!("start_id=-&end_id=+&after={seventh}"))), [8, 9, 10]);
    // A bounded walk backwards stays within its bounds.
    let page = get(&hub, &format!("start_id={third}&end_id={seventh}&order=desc&limit=3"));
    assert_eq!(sequences(&page), [7, 6, 5]);
    let next = page["next_id"].as_str().unwrap();
    let rest = get(&hub, &format!("start_id={next}&order=desc&limit=3"));
    assert_eq!((sequences(&rest), &rest["has_more"]), (vec![4, 3], &json!(false)));
}

fn ndjson(hub: &Hub, query: &str) -> Answer {
    let path = format!("/runs/r/events?{query}");
    let answer = hub.send(Request::new("GET", &path).header("accept", "application/x-ndjson"));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer
}

fn lines_stream_the_whole_range(setup: Setup) {
    let hub = setup.hub();
    for batch in 0..5 {
        hub.publish_numbers("r", batch * 500 + 1, 500);
    }
    let lines = |answer: &Answer| -> Vec<u64> {
        assert!(answer.text().is_empty() || answer.text().ends_with('\n'));
        let events = answer.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.map(|e| e["sequence"].as_u64().unwrap()).collect()
    };
    assert_eq!(lines(&ndjson(&hub, "")), (1..=2500).collect::<Vec<_>>());
    assert_eq!(lines(&ndjson(&hub, "limit=3&order=desc")), [2500, 2499, 2498]);
    assert_eq!(lines(&ndjson(&hub, "types=tool.*")), [] as [u64; 0]);
}

fn a_filter_does_not_end_the_walk(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "tool.start" }));
    hub.publish_numbers("r", 1, 1000);
    hub.publish_numbers("r", 1001, 500);
    hub.publish("r", &json!([{ "type": "tool.end" }, { "type": "tool.end" }]));
    let page = get(&hub, "types=tool.*&limit=2");
    assert_eq!((sequences(&page), &page["has_more"]), (vec![1, 1502], &json!(true)));
    let next = page["next_id"].as_str().unwrap();
    let rest = get(&hub, &format!("types=tool.*&limit=2&start_id={next}"));
    assert_eq!((sequences(&rest), &rest["has_more"]), (vec![1503], &json!(false)));
}

fn an_empty_range_is_no_error(setup: Setup) {
    let hub = setup.hub();
    hub.get("/runs/r/events").is_problem(404, "RUN_NOT_FOUND");
    hub.publish_numbers("r", 1, 3);
    for query in [
        "start_id=5-0&end_id=4-0",
        "start_id=%2B",
        "end_id=-",
        "after=18446744073709551615-18446744073709551615",
    ] {
        let page = get(&hub, query);
        assert_eq!((sequences(&page), &page["has_more"]), (vec![], &json!(false)), "{query}");
    }
}

fn large_events_make_smaller_pages(setup: Setup) {
    let hub = setup.hub();
    let event = json!({ "type": "a.b", "data": "x".repeat(1_000_000) });
    for _ in 0..5 {
        hub.publish("r", &Value::from(vec![event.clone(); 10]));
    }
    let page = get(&hub, "limit=50");
    let first = sequences(&page);
    assert!(first.len() > 10 && first.len() < 50 && page["has_more"] == true, "{}", first.len());
    let next = page["next_id"].as_str().unwrap();
    let rest = sequences(&get(&hub, &format!("limit=50&start_id={next}")));
    assert_eq!([first, rest].concat(), (1..=50).collect::<Vec<_>>());
}
