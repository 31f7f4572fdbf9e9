//! Redis is away, dies, freezes: publishes fail in time, streams stay open, everything heals by itself.

use crate::common::{Hub, RedisServer, Setup, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn mode(hub: &Hub) -> Value {
    let ready = hub.get("/health/ready");
    assert_eq!(ready.status, 200, "a degraded hub still serves");
    ready.json()["mode"].clone()
}

fn until_mode(hub: &Hub, wanted: &str) {
    until(&format!("the mode is {wanted}"), || (mode(hub) == wanted).then_some(()));
}

/// Publishes and expects 503 soon after the publish timeout.
fn fails_in_time(hub: &Hub) {
    let began = Instant::now();
    hub.post("/runs/r/events", r#"{"type":"a.b"}"#).is_problem(503, "STORE_UNAVAILABLE");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "a publish waited {took:?}");
}

#[test]
fn the_hub_starts_without_redis_and_finds_it() {
    let mut redis = RedisServer::start();
    redis.kill();
    let mut setup = Setup::on(redis).set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    assert_eq!(mode(&hub), "degraded");
    let ready = hub.get("/health/ready").json();
    assert!(
        ready["why"].is_string()
            && ready["since"].is_string()
            && ready["store"]["reachable"] == false,
        "{ready}"
    );
    assert_eq!(hub.get("/health/live").status, 200);
    fails_in_time(&hub);
    hub.get("/runs/r").is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/r/events").is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/r/events/stream?must_exist=true").is_problem(503, "STORE_UNAVAILABLE");
    // An EventSource gives up for good on an error; so a stream opens, and waits.
    let mut stream = hub.follow("/runs/r/events/stream");
    setup.redis.as_mut().unwrap().start_again();
    until_mode(&hub, "normal");
    hub.publish_numbers("r", 1, 3);
    assert_eq!(stream.sequences(3), [1, 2, 3]);
}

#[test]
fn streams_that_open_while_redis_is_away_find_out_how_the_run_stands() {
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let told = hub.publish_numbers("running", 1, 3);
    let ended =
        hub.publish("ended", &json!([{ "type": "a.b" }, { "type": "lifecycle.completed" }]));
    let id = |told: &Value, index: usize| told["events"][index]["id"].as_str().unwrap().to_owned();
    setup.redis.as_mut().unwrap().kill();
    until_mode(&hub, "degraded");
    let mut live = hub.follow("/runs/running/events/stream?from=live");
    let mut behind = hub.follow_from("/runs/running/events/stream", &id(&told, 1));
    let mut ahead = hub.follow_from("/runs/running/events/stream", "99999999999999-0");
    let mut over = hub.follow_from("/runs/ended/events/stream", &id(&ended, 1));
    let mut late = hub.follow("/runs/ended/events/stream");
    setup.redis.as_mut().unwrap().start_again();
    until_mode(&hub, "normal");
    over.closes("run_finished");
    assert_eq!(late.sequences(2), [1, 2]);
    late.closes("run_finished");
    assert_eq!(behind.sequences(1), [3]);
    assert_eq!(ahead.control().1["reason"], "reset");
    assert_eq!(ahead.sequences(3), [1, 2, 3]);
    hub.publish_numbers("running", 4, 1);
    for stream in [&mut live, &mut behind, &mut ahead] {
        assert_eq!(stream.sequences(1), [4]);
        assert_eq!(stream.modes, ["degraded", "recovered"]);
    }
}

#[test]
fn redis_is_killed_and_comes_back() {
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    for round in 0..2 {
        setup.redis.as_mut().unwrap().kill();
        fails_in_time(&hub);
        until_mode(&hub, "degraded");
        setup.redis.as_mut().unwrap().start_again();
        until_mode(&hub, "normal");
        let first = 4 + round * 2;
        let told = hub.publish_numbers("r", first, 2);
        assert_eq!(
            told["events"][0]["sequence"], first,
            "what failed was not stored behind the publisher's back"
        );
        assert_eq!(stream.sequences(2), [first, first + 1]);
        assert_eq!(std::mem::take(&mut stream.modes), ["degraded", "recovered"]);
    }
    // Whoever comes later has nothing to be told.
    let mut later = hub.follow("/runs/r/events/stream");
    later.event();
    assert!(later.modes.is_empty());
}

#[test]
fn redis_freezes_and_what_it_had_taken_is_not_doubled() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(1), [1]);
    setup.redis_server().freeze();
    let body = json!({ "type": "a.b", "event_id": "k" }).to_string();
    let began = Instant::now();
    hub.post("/runs/r/events", body.clone()).is_problem(503, "STORE_UNAVAILABLE");
    assert!(began.elapsed() < Duration::from_secs(3));
    until_mode(&hub, "degraded");
    setup.redis_server().thaw();
    until_mode(&hub, "normal");
    // It may have been stored, late; published again with its id it is stored once.
    let again = hub.post("/runs/r/events", body);
    assert!(matches!(again.status, 200 | 201), "{}", again.text());
    assert_eq!(again.json()["events"][0]["sequence"], 2);
    assert_eq!(stream.event().1["event_id"], "k");
    hub.publish_numbers("r", 3, 1);
    assert_eq!(stream.sequences(1), [3]);
    assert_eq!(hub.history("r").len(), 3);
}

#[test]
fn redis_refuses_writes_and_readers_go_on() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let redis = setup.redis_server();
    for (refuse, accept) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ] {
        let () = redis.command(&refuse);
        fails_in_time(&hub);
        until_mode(&hub, "degraded");
        assert_eq!(hub.history("r").len(), 3);
        assert_eq!(hub.follow("/runs/r/events/stream").sequences(3), [1, 2, 3]);
        let () = redis.command(&accept);
        until_mode(&hub, "normal");
    }
    assert_eq!(hub.publish_numbers("r", 4, 1)["events"][0]["sequence"], 4);
}

#[test]
fn scripts_that_redis_forgot_are_given_again() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut stream = hub.follow("/runs/r/events/stream");
    let () = setup.redis_server().command(&["SCRIPT", "FLUSH"]);
    hub.publish_numbers("r", 2, 1);
    let () = setup.redis_server().command(&["SCRIPT", "FLUSH"]);
    assert_eq!(hub.get("/runs/r").json()["length"], 2);
    assert_eq!(stream.sequences(2), [1, 2]);
    assert_eq!(mode(&hub), "normal");
}

#[test]
fn a_replica_is_not_written_to() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let () = setup.redis_server().command(&["REPLICAOF", "127.0.0.1", "1"]);
    fails_in_time(&hub);
    until_mode(&hub, "degraded");
    let () = setup.redis_server().command(&["REPLICAOF", "NO", "ONE"]);
    until_mode(&hub, "normal");
    hub.publish_numbers("r", 1, 1);
}

#[test]
fn a_password_that_changes_is_not_logged() {
    let setup = Setup::on(RedisServer::with(&["--requirepass", "hunter2"]));
    let url = setup.redis_server().url().replace("redis://", "redis://:hunter2@");
    let setup = setup.set("REDIS__URL", &url).set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut admin = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let change = |admin: &mut redis::Connection, password: &str| {
        let () =
            redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).query(admin).unwrap();
        let () = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .query(admin)
            .unwrap();
    };
    change(&mut admin, "hunter3");
    until_mode(&hub, "degraded");
    fails_in_time(&hub);
    change(&mut admin, "hunter2");
    until_mode(&hub, "normal");
    hub.publish_numbers("r", 2, 1);
    assert!(!hub.log().contains("hunter"), "{}", hub.log());
    assert!(!hub.get("/health/ready").text().contains("hunter"));
}
