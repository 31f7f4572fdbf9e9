//! Runs that only other programs have written to are found and listed, with `SCAN` in small steps.

use crate::common::{Hub, Setup, until};

fn discovering() -> Setup {
    Setup::redis().set("REDIS__DISCOVER", "true")
}

/// The runs that the hub lists, in the order of their names.
fn listed(hub: &Hub) -> Vec<String> {
    let answer = hub.get("/runs");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let runs = answer.json()["runs"].as_array().unwrap().clone();
    let mut names: Vec<String> =
        runs.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn until_listed(hub: &Hub, wanted: &[&str]) {
    until(&format!("the hub lists {wanted:?}"), || (listed(hub) == wanted).then_some(()));
}

const FIELDS: &[(&str, &[u8])] = &[("event_category", b"llm"), ("event_action", b"stream")];

#[test]
fn foreign_runs_are_listed_in_small_steps() {
    let setup = discovering();
    let redis = setup.redis_server();
    let others = "for i = 1, 4000 do redis.call('SET', 'other:' .. i, i) end";
    let () = redis.command(&["EVAL", others, "0"]);
    redis.xadd("run:before:events", FIELDS);
    let hub = setup.hub();
    redis.xadd("run:after:events", FIELDS);
    // Neither a run, nor a stream, nor a run's id; job streams are not served here.
    redis.xadd("run:of:two:events", FIELDS);
    redis.xadd("run:{tagged}:events", FIELDS);
    redis.xadd("job:7", FIELDS);
    let () = redis.command(&["SET", "run:text:events", "x"]);
    until_listed(&hub, &["after", "before"]);
    let run = &hub.get("/runs").json()["runs"][0];
    assert_eq!((&run["run_id"], &run["length"]), (&"after".into(), &1.into()));
    // Later walks ask for no run that is listed.
    let (states, walks) = (redis.calls("xinfo|stream"), redis.calls("zmscore"));
    assert!(states > 0);
    until("further walks", || (redis.calls("zmscore") >= walks + 3).then_some(()));
    assert_eq!(redis.calls("xinfo|stream"), states);
    assert!(redis.calls("scan") >= 8, "no step takes the whole keyspace");
    assert_eq!(redis.calls("keys"), 0);
}

#[test]
fn tagged_runs_and_jobs_are_found() {
    let setup = discovering().set("REDIS__KEY_STYLE", "tagged").set("REDIS__JOB_STREAMS", "true");
    let redis = setup.redis_server();
    let hub = setup.hub();
    redis.xadd("run:{a}:events", FIELDS);
    redis.xadd("run:plain:events", FIELDS);
    redis.xadd("job_events:b", &[("event_type", b"task_started")]);
    redis.xadd("job:c", &[("data", br#"{"eventType":"finish"}"#)]);
    redis.xadd("job:c:logs", FIELDS);
    let _: i64 = redis.command(&["HSET", "job:d", "state", "waiting"]);
    until_listed(&hub, &["a", "b", "c"]);
    let ended = hub.get("/runs?status=finished").json();
    assert_eq!(ended["runs"][0]["run_id"], "c");
    assert_eq!(redis.calls("keys"), 0);
}

#[test]
fn nobody_looks_where_that_is_not_switched_on() {
    let setup = Setup::redis();
    let redis = setup.redis_server();
    redis.xadd("run:foreign:events", FIELDS);
    let hub = setup.hub();
    hub.publish_numbers("own", 1, 1);
    assert_eq!(listed(&hub), ["own"]);
    assert_eq!((redis.calls("scan"), redis.calls("keys")), (0, 0));
    // Another hub that looks lists it for all.
    let setup = setup.set("REDIS__DISCOVER", "true").with_another_folder();
    let looking = setup.hub();
    until_listed(&looking, &["foreign", "own"]);
    assert_eq!(listed(&hub), ["foreign", "own"]);
}

#[test]
fn the_walk_goes_on_when_redis_was_away() {
    let mut setup = discovering();
    let hub = setup.hub();
    setup.redis_server().xadd("run:a:events", FIELDS);
    until_listed(&hub, &["a"]);
    setup.redis.as_mut().unwrap().start_again();
    setup.redis_server().xadd("run:b:events", FIELDS);
    until("the run of after the outage is listed", || {
        let answer = hub.get("/runs");
        (answer.status == 200 && listed(&hub) == ["a", "b"]).then_some(())
    });
}
