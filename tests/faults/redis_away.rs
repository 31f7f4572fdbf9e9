//! Redis is away, dies, freezes, refuses: publishes are spooled in time, streams stay open, everything heals
//! by itself, and what was spooled is stored, in order and once.

use super::{numbers, spools_in_time};
use crate::common::{RedisServer, Setup};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn the_hub_starts_without_redis_and_finds_it() {
    let mut redis = RedisServer::start();
    redis.kill();
    let mut setup = Setup::on(redis).set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    assert_eq!(hub.mode(), "degraded");
    let ready = hub.get("/health/ready").json();
    assert!(
        ready["why"].is_string()
            && ready["since"].is_string()
            && ready["store"]["reachable"] == false,
        "{ready}"
    );
    assert_eq!(hub.get("/health/live").status, 200);
    spools_in_time(&hub, 1);
    hub.get("/runs/r").is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/r/events").is_problem(503, "STORE_UNAVAILABLE");
    hub.get("/runs/r/events/stream?must_exist=true").is_problem(503, "STORE_UNAVAILABLE");
    // An EventSource gives up for good on an error; so a stream opens, and waits.
    let mut stream = hub.follow("/runs/r/events/stream");
    setup.redis.as_mut().unwrap().start_again();
    hub.until_mode("normal");
    hub.publish_numbers("r", 2, 2);
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3]);
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
    hub.until_mode("degraded");
    let mut live = hub.follow("/runs/running/events/stream?from=live");
    let mut behind = hub.follow_from("/runs/running/events/stream", &id(&told, 1));
    let mut ahead = hub.follow_from("/runs/running/events/stream", "99999999999999-0");
    let mut over = hub.follow_from("/runs/ended/events/stream", &id(&ended, 1));
    let mut late = hub.follow("/runs/ended/events/stream");
    setup.redis.as_mut().unwrap().start_again();
    hub.until_mode("normal");
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
    // As Redis comes it may lose its last second; here nothing it acknowledged may be missing.
    let mut setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    for round in 0..2 {
        let first = 4 + round * 4;
        setup.redis.as_mut().unwrap().kill();
        spools_in_time(&hub, first);
        hub.until_mode("degraded");
        spools_in_time(&hub, first + 1);
        setup.redis.as_mut().unwrap().start_again();
        hub.until_mode("normal");
        let told = hub.publish_numbers("r", first + 2, 2);
        assert_eq!(told["events"][0]["sequence"], first + 2, "behind what was spooled");
        assert_eq!(stream.sequences(4), (first..first + 4).collect::<Vec<_>>());
        assert_eq!(std::mem::take(&mut stream.modes), ["degraded", "recovered"]);
    }
    assert_eq!(numbers(&hub, "r"), (1..=11).collect::<Vec<_>>());
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
    let body = json!({ "type": "a.b", "data": { "n": 2 }, "event_id": "k" });
    let began = Instant::now();
    hub.publish_spooled("r", &body);
    assert!(began.elapsed() < Duration::from_secs(3));
    hub.until_mode("degraded");
    // Its publisher asks again, and others come.
    hub.publish_spooled("r", &body);
    spools_in_time(&hub, 3);
    setup.redis_server().thaw();
    hub.until_mode("normal");
    // Redis applied what it had in its buffers, and got it again from the spool.
    let again = hub.post("/runs/r/events", body.to_string());
    assert_eq!((again.status, &again.json()["events"][0]["sequence"]), (200, &json!(2)));
    assert_eq!(stream.event().1["event_id"], "k");
    hub.publish_numbers("r", 4, 1);
    assert_eq!(stream.sequences(2), [3, 4]);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4]);
}

#[test]
fn redis_refuses_writes_and_readers_go_on() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let redis = setup.redis_server();
    for (first, refuse, accept) in [
        (4, ["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (
            5,
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ] {
        let () = redis.command(&refuse);
        spools_in_time(&hub, first);
        hub.until_mode("degraded");
        assert_eq!(numbers(&hub, "r"), (1..first).collect::<Vec<_>>());
        assert_eq!(hub.follow("/runs/r/events/stream").sequences(3), [1, 2, 3]);
        let () = redis.command(&accept);
        hub.until_mode("normal");
    }
    assert_eq!(hub.publish_numbers("r", 6, 1)["events"][0]["sequence"], 6);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3, 4, 5, 6]);
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
    assert_eq!(hub.mode(), "normal");
}

#[test]
fn a_server_that_was_demoted_is_not_written_to() {
    let setup = Setup::redis().set("PUBLISH__TIMEOUT", "1s");
    let hub = setup.hub();
    let () = setup.redis_server().command(&["REPLICAOF", "127.0.0.1", "1"]);
    spools_in_time(&hub, 1);
    hub.until_mode("degraded");
    let () = setup.redis_server().command(&["REPLICAOF", "NO", "ONE"]);
    hub.until_mode("normal");
    hub.publish_numbers("r", 2, 1);
    assert_eq!(numbers(&hub, "r"), [1, 2]);
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
    hub.until_mode("degraded");
    spools_in_time(&hub, 2);
    change(&mut admin, "hunter2");
    hub.until_mode("normal");
    hub.publish_numbers("r", 3, 1);
    assert_eq!(numbers(&hub, "r"), [1, 2, 3]);
    assert!(!hub.log().contains("hunter"), "{}", hub.log());
    assert!(!hub.get("/health/ready").text().contains("hunter"));
}
