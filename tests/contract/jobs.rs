//! Job streams of other programs, served as runs: `job_events:{job_id}` and `job:{job_id}`.

use crate::common::{Frame, Hub, Request, Setup, until};
use serde_json::{Value, json};

fn serving_jobs() -> Setup {
    Setup::redis().set("REDIS__JOB_STREAMS", "true")
}

fn kind(event: &Value) -> String {
    let name = |part: &str| event["event"][part].as_str().unwrap().to_owned();
    format!("{}.{}", name("category"), name("action"))
}

fn kinds(hub: &Hub, run: &str) -> Vec<String> {
    hub.history(run).iter().map(kind).collect()
}

#[test]
fn both_kinds_of_job_streams_are_runs() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    for (key, run) in [("job_events:7", "7"), ("job:task-8", "task-8")] {
        let first = redis.xadd(
            key,
            &[
                ("data", br#"{"taskType":"outline","n":1.10}"#),
                ("timestamp", b"2025-01-01T12:00:00.001Z"),
                ("event_type", b"task_started"),
            ],
        );
        redis.xadd(key, &[("data", b"{}"), ("timestamp", b""), ("event_type", b"taskProgress")]);
        let data = r#"{"eventType":"task_completed","taskType":"outline", "result":{}}"#;
        let last = redis.xadd(key, &[("data", data.as_bytes())]);

        let shown = hub.get(&format!("/runs/{run}")).json();
        assert_eq!((&shown["status"], &shown["length"]), (&json!("running"), &json!(3)));
        assert_eq!((&shown["first_id"], &shown["last_id"]), (&json!(first), &json!(last)));
        assert_eq!((&shown["last_sequence"], &shown["expires_in"]), (&Value::Null, &Value::Null));
        let events = hub.history(run);
        assert_eq!(
            events[0],
            json!({ "id": first, "run_id": run, "timestamp": "2025-01-01T12:00:00.001Z",
                "sequence": null, "source": null, "event": { "category": "task", "action": "started" },
                "data": { "taskType": "outline", "n": 1.10 } })
        );
        assert_eq!(kinds(&hub, run), ["task.started", "task.progress", "task.completed"]);
        // An empty time is the id's; data is never rewritten.
        let ms: i64 = events[1]["id"].as_str().unwrap().split_once('-').unwrap().0.parse().unwrap();
        let time = events[1]["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(time.as_millisecond(), ms);
        assert!(hub.get(&format!("/runs/{run}/events")).text().contains(data));

        let mut stream = hub.follow(&format!("/runs/{run}/events/stream"));
        let seen: Vec<String> = (0..3).map(|_| kind(&stream.event().1)).collect();
        assert_eq!(seen, ["task.started", "task.progress", "task.completed"]);
        let live = redis.xadd(key, &[("event_type", b"page_rendered"), ("data", b"1")]);
        let (id, event) = stream.event();
        assert_eq!((id, kind(&event)), (live.clone(), "custom.page_rendered".to_owned()));
        let mut resumed = hub.follow_from(&format!("/runs/{run}/events/stream"), &last);
        assert_eq!(resumed.event().0, live);
    }
    let listed = hub.get("/runs").json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 2, "{listed}");
}

#[test]
fn they_are_served_only_where_that_is_switched_on() {
    let setup = Setup::redis();
    let hub = setup.hub();
    setup.redis_server().xadd("job_events:7", &[("event_type", b"task_started")]);
    hub.get("/runs/7").is_problem(404, "RUN_NOT_FOUND");
}

#[test]
fn the_end_of_a_job_is_the_end_of_its_run() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let status = |run: &str| hub.get(&format!("/runs/{run}")).json()["status"].clone();
    for (run, fields) in [
        ("field", [("event_type", "finish"), ("data", "{}")]),
        ("alone", [("timestamp", ""), ("data", r#"{"eventType":"finish"}"#)]),
        ("dotted", [("timestamp", ""), ("data", r#"{"event_type":"lifecycle.finish"}"#)]),
    ] {
        let key = format!("job:{run}");
        redis.xadd(&key, &[("event_type", b"task_started")]);
        assert_eq!(status(run), "running");
        let mut stream = hub.follow(&format!("/runs/{run}/events/stream"));
        assert_eq!(kind(&stream.event().1), "task.started");
        let fields = fields.map(|(name, value)| (name, value.as_bytes()));
        let last = redis.xadd(&key, &fields);
        assert_eq!(kind(&stream.event().1), "lifecycle.finish");
        stream.closes("run_finished");
        assert_eq!(status(run), "finished");
        let request = Request::new("GET", &format!("/runs/{run}/events/stream"));
        assert_eq!(hub.send(request.header("last-event-id", &last)).status, 204);
    }
    // What only mentions an end is none.
    for (run, data) in [
        ("nested", r#"{"payload":{"eventType":"finish"},"eventType":"task_progress"}"#),
        ("listed", r#"["eventType","finish",{"eventType":"finish"}]"#),
        ("broken", r#"{"eventType":"finish""#),
    ] {
        redis.xadd(&format!("job:{run}"), &[("data", data.as_bytes())]);
        assert_eq!(status(run), "running", "{run}");
    }
}

#[test]
fn how_long_a_job_is_kept_is_its_writers_to_say() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    redis.xadd("job:7", &[("event_category", b"lifecycle"), ("event_action", b"started")]);
    let _: i64 = redis.command(&["EXPIRE", "job:7", "600"]);
    let left = || hub.get("/runs/7").json()["expires_in"].as_u64().unwrap();
    assert!((500..=600).contains(&left()), "a start takes back no expiry that the hub did not set");
    redis.xadd("job:7", &[("event_type", b"finish")]);
    assert!((500..=600).contains(&left()), "an end sets none either");
    assert_eq!(hub.get("/runs/7").json()["status"], "finished");
    assert!(redis.command::<i64>(&["PTTL", "job:7"]) <= 600_000);
    // Nor where its writer has said nothing.
    redis.xadd("job:9", &[("event_type", b"finish")]);
    let run = hub.get("/runs/9").json();
    assert_eq!((&run["status"], &run["expires_in"]), (&json!("finished"), &Value::Null));
    hub.history("9");
    assert_eq!(redis.command::<i64>(&["PTTL", "job:9"]), -1);
    // What the hub itself remembers of it does not stay for ever, and is found out again.
    assert!(redis.command::<i64>(&["PTTL", "run:9:meta"]) > 0);
    let _: u64 = redis.command(&["DEL", "run:9:meta"]);
    assert_eq!(hub.get("/runs/9").json()["status"], "finished");
    // Nor when a job runs again, with an expiry or without.
    let _: i64 = redis.command(&["PEXPIRE", "job:7", "1"]);
    until("the job's stream is gone", || {
        (redis.command::<i64>(&["EXISTS", "job:7"]) == 0).then_some(())
    });
    for kind in ["task_progress", "finish", "started", "finish"] {
        redis.xadd("job:7", &[("event_type", kind.as_bytes())]);
        hub.get("/runs/7").json();
        assert_eq!(redis.command::<i64>(&["PTTL", "job:7"]), -1, "after {kind}");
    }
    let _: i64 = redis.command(&["EXPIRE", "job:7", "500"]);
    redis.xadd("job:7", &[("event_type", b"task_progress")]);
    hub.get("/runs/7").json();
    let _: i64 = redis.command(&["EXPIRE", "job:7", "5000"]);
    redis.xadd("job:7", &[("event_type", b"finish")]);
    assert!((4900..=5000).contains(&left()));
    assert!(redis.command::<i64>(&["PTTL", "job:7"]) > 4_900_000);
    // What is published to a finished one begins the run's own stream, which is kept as long as any that ended.
    hub.publish("9", &json!({ "type": "a.b" }));
    assert!(redis.command::<i64>(&["PTTL", "run:9:events"]) > 0);
    // One that vanished answers as any stream of a foreign program that did.
    redis.xadd("job:8", &[("event_type", b"task_started")]);
    assert_eq!(hub.get("/runs/8").json()["length"], 1);
    let _: i64 = redis.command(&["PEXPIRE", "job:8", "1"]);
    until("the job's stream is gone", || (hub.get("/runs/8").json()["length"] == 0).then_some(()));
    assert!(hub.history("8").is_empty());
}

#[test]
fn a_reader_hears_of_a_job_that_begins_later() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let mut streams: Vec<_> =
        ["7", "8", "9"].map(|run| hub.follow(&format!("/runs/{run}/events/stream"))).into();
    let ids = ["job_events:7", "job:8", "run:9:events"]
        .map(|key| redis.xadd(key, &[("event_type", b"task_started")]));
    for (stream, id) in streams.iter_mut().zip(&ids) {
        assert_eq!(stream.event().0, *id);
    }
    let next = redis.xadd("job:8", &[("event_type", b"task_progress")]);
    assert_eq!(streams[1].event().0, next);
    // It goes, which is said, and comes again.
    let _: i64 = redis.command(&["DEL", "job:8"]);
    redis.xadd("job_events:8", &[("event_type", b"task_failed")]);
    let (name, gap) = streams[1].control();
    assert_eq!((name.as_str(), &gap["reason"]), ("gap", &json!("reset")));
    assert_eq!(kind(&streams[1].event().1), "task.failed");
}

#[test]
fn what_is_no_stream_is_ignored() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    let _: i64 = redis.command(&["HSET", "job:9", "state", "waiting"]);
    let () = redis.command(&["SET", "job_events:9", "x"]);
    hub.get("/runs/9").is_problem(404, "RUN_NOT_FOUND");
    let mut stream = hub.follow("/runs/9/events/stream");
    hub.publish_numbers("9", 1, 2);
    assert_eq!(stream.sequences(2), [1, 2]);
    assert_eq!(hub.send(Request::new("DELETE", "/runs/9")).status, 204);
    assert_eq!(redis.command::<i64>(&["EXISTS", "job:9", "job_events:9"]), 2);
    // Under the run's own key it breaks the run, whatever job there is.
    redis.xadd("job:broken", &[("event_type", b"task_started")]);
    let () = redis.command(&["SET", "run:broken:events", "x"]);
    hub.get("/runs/broken").is_problem(503, "STORE_UNAVAILABLE");
    hub.publish_numbers("unaffected", 1, 1);
}

#[test]
fn the_runs_own_stream_wins() {
    let setup = serving_jobs();
    let hub = setup.hub();
    let redis = setup.redis_server();
    redis.xadd("job:7", &[("event_type", b"task_started")]);
    redis.xadd("job_events:7", &[("event_type", b"task_progress")]);
    assert_eq!(kinds(&hub, "7"), ["task.progress"]);
    let mut stream = hub.follow("/runs/7/events/stream");
    assert_eq!(kind(&stream.event().1), "task.progress");
    // What is published goes to the run's own stream, from the first event on.
    hub.publish("7", &json!({ "type": "a.b" }));
    assert_eq!(kinds(&hub, "7"), ["a.b"]);
    assert_eq!(redis.command::<i64>(&["XLEN", "job_events:7"]), 1);
    // Who followed the job is told that this is another stream.
    match stream.next_real() {
        Frame::Control { name, data } => {
            assert_eq!((name.as_str(), &data["reason"]), ("gap", &json!("reset")));
        }
        other => panic!("expected a gap, got {other:?}"),
    }
    assert_eq!(stream.sequences(1), [1]);
    hub.publish("7", &json!({ "type": "a.c" }));
    assert_eq!(stream.sequences(1), [2]);
    // Once it is gone the job is served again.
    let _: i64 = redis.command(&["DEL", "run:7:events"]);
    assert_eq!(kinds(&hub, "7"), ["task.progress"]);
    assert_eq!(hub.get("/runs/7").json()["length"], 1);
    // A run that is deleted is gone, and does not come back as a job.
    assert_eq!(hub.send(Request::new("DELETE", "/runs/7")).status, 204);
    hub.get("/runs/7").is_problem(404, "RUN_NOT_FOUND");
    assert_eq!(redis.command::<i64>(&["EXISTS", "job:7", "job_events:7", "run:7:meta"]), 0);
}

#[test]
fn a_job_can_be_given_another_expiry() {
    let setup = serving_jobs();
    let hub = setup.hub();
    setup.redis_server().xadd("job:7", &[("event_type", b"task_started")]);
    let request = Request::new("PUT", "/runs/7/expiry").json(r#"{"seconds":60}"#);
    assert_eq!(hub.send(request).json()["expires_in"], 60);
    let left: i64 = setup.redis_server().command(&["PTTL", "job:7"]);
    assert!((1..=60_000).contains(&left), "{left}");
}
