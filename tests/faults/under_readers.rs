//! What readers hear when data is removed under them.

use super::{event, numbers};
use crate::common::proxy::Proxy;
use crate::common::{Frame, Hub, RedisServer, Request, Setup, Stream, until};
use serde_json::{Value, json};

fn reading(setup: &Setup) -> (Hub, Stream, Value) {
    let hub = setup.hub();
    let told = hub.publish_numbers("r", 1, 20);
    let mut stream = hub.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(20), (1..=20).collect::<Vec<_>>());
    (hub, stream, told)
}

#[track_caller]
fn says_reset(stream: &mut Stream, last: &Value) -> Value {
    let (name, gap) = stream.control();
    assert_eq!((name.as_str(), gap["reason"].as_str()), ("gap", Some("reset")), "{gap}");
    assert_eq!(gap["requested"], *last);
    gap
}

#[test]
fn a_stream_that_is_deleted() {
    let setup = Setup::redis();
    let (hub, mut stream, told) = reading(&setup);
    let () = setup.redis_server().command(&["DEL", "run:r:events"]);
    says_reset(&mut stream, &told["events"][19]["id"]);
    // The numbers go on, as the run's counter was not deleted.
    hub.publish_numbers("r", 21, 2);
    assert_eq!(stream.sequences(2), [21, 22]);
}

/// A reader of one hub, and another hub on the same Redis, which deletes the run.
fn deleted_through_another_hub() -> (Setup, [Hub; 2], Stream) {
    let setup = Setup::redis();
    let (hub, stream, _) = reading(&setup);
    let setup = setup.with_another_folder();
    let other = setup.hub();
    assert_eq!(other.send(Request::new("DELETE", "/runs/r")).status, 204);
    (setup, [hub, other], stream)
}

#[test]
fn a_run_that_another_hub_deletes() {
    let (setup, _hubs, mut stream) = deleted_through_another_hub();
    stream.closes("run_deleted");
    // Nothing of the run is left, and what says that it was deleted goes by itself.
    let redis = setup.redis_server();
    assert_eq!(redis.command::<Vec<String>>(&["KEYS", "run:*"]), Vec::<String>::new());
    let left: u64 = redis.command(&["PTTL", "runhub:deleted:r"]);
    assert!((1..=60_000).contains(&left), "{left}");
}

#[test]
fn a_run_that_another_hub_deletes_and_begins_anew() {
    let (_setup, [hub, other], mut stream) = deleted_through_another_hub();
    other.publish_numbers("r", 1, 2);
    stream.closes("run_deleted");
    // Who reads the new run hears nothing of the old one.
    let mut anew = hub.follow("/runs/r/events/stream");
    assert_eq!(anew.sequences(2), [1, 2]);
    other.publish_numbers("r", 3, 1);
    assert_eq!(anew.sequences(1), [3]);
}

#[test]
fn a_run_is_deleted_also_by_a_hub_that_may_not_say_so() {
    let setup = Setup::redis();
    let rights = ["resetkeys", "~run:*", "~runs", "~runhub:probe"];
    let () = setup.redis_server().command(&[&["ACL", "SETUSER", "default"], &rights[..]].concat());
    let (hub, mut stream, told) = reading(&setup);
    let setup = setup.with_another_folder();
    let other = setup.hub();
    assert_eq!(other.send(Request::new("DELETE", "/runs/r")).status, 204);
    // Why it is gone the first one may not ask.
    says_reset(&mut stream, &told["events"][19]["id"]);
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
}

#[test]
fn a_run_that_is_emptied_after_a_deletion_was_not_deleted() {
    let (setup, [_hub, other], mut stream) = deleted_through_another_hub();
    stream.closes("run_deleted");
    let told = other.publish_numbers("r", 1, 2);
    let mut stream = other.follow("/runs/r/events/stream");
    assert_eq!(stream.sequences(2), [1, 2]);
    let () = setup.redis_server().command(&["DEL", "run:r:events"]);
    says_reset(&mut stream, &told["events"][1]["id"]);
}

#[test]
fn a_store_that_is_emptied() {
    let setup = Setup::redis();
    let (hub, mut stream, told) = reading(&setup);
    let () = setup.redis_server().command(&["FLUSHALL"]);
    says_reset(&mut stream, &told["events"][19]["id"]);
    hub.publish_numbers("r", 1, 2);
    assert_eq!(stream.sequences(2), [1, 2]);
}

#[test]
fn a_store_that_is_emptied_and_written_to_at_once() {
    let setup = Setup::redis();
    let (hub, mut stream, told) = reading(&setup);
    let () = setup.redis_server().command(&["FLUSHALL"]);
    hub.publish_numbers("r", 1, 2);
    says_reset(&mut stream, &told["events"][19]["id"]);
    assert_eq!(stream.sequences(2), [1, 2]);
}

#[test]
fn a_stream_that_is_rolled_back() {
    let setup = Setup::redis();
    let (_hub, mut stream, told) = reading(&setup);
    setup.redis_server().roll_back("r");
    let gap = says_reset(&mut stream, &told["events"][19]["id"]);
    assert_eq!(gap["oldest"], "1000-0");
    assert_eq!(stream.event().0, "1000-0");
}

#[test]
fn a_store_that_was_rolled_back_and_went_on() {
    let redis = RedisServer::start();
    let mut setup = Setup::on(redis).set("PUBLISH__TIMEOUT", "1s");
    let (hub, mut stream, _) = reading(&setup);
    hub.publish_numbers("r", 21, 1);
    let last = hub.publish_numbers("r", 22, 1);
    assert_eq!(stream.sequences(2), [21, 22]);
    setup.redis.as_mut().unwrap().kill();
    // The last event is lost, and numbers go on before anybody looks.
    let folder = setup.redis_server().folder().join("appendonlydir");
    let file = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let file = file.max_by_key(|path| path.to_str().unwrap().ends_with(".incr.aof")).unwrap();
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() - 50).unwrap();
    for n in [31, 32] {
        hub.publish_spooled("r", &event(n));
    }
    setup.redis.as_mut().unwrap().start_again();
    hub.until_mode("normal");
    says_reset(&mut stream, &last["events"][0]["id"]);
    assert_eq!(stream.sequences(23), (1..=23).collect::<Vec<_>>());
    assert_eq!(numbers(&hub, "r"), (1..=21).chain([31, 32]).collect::<Vec<_>>());
}

/// A reader that had five events comes back after the run was trimmed to so many, and is told of the gap.
fn comes_back_trimmed(setup: &Setup, kept: &str) -> (Hub, Stream, Value, Value) {
    let (hub, stream, told) = reading(setup);
    drop(stream);
    let cursor = told["events"][4]["id"].as_str().unwrap();
    let _: u64 = setup.redis_server().command(&["XTRIM", "run:r:events", "MAXLEN", kept]);
    let mut stream = hub.follow_from("/runs/r/events/stream", cursor);
    let (name, gap) = stream.control();
    assert_eq!(
        (name.as_str(), gap["reason"].as_str(), gap["requested"].as_str()),
        ("gap", Some("trimmed"), Some(cursor))
    );
    (hub, stream, told, gap)
}

#[test]
fn a_stream_that_is_trimmed_to_nothing_while_nobody_reads() {
    let setup = Setup::redis();
    let (hub, mut stream, _, gap) = comes_back_trimmed(&setup, "0");
    assert_eq!(gap["oldest"], Value::Null);
    hub.publish_numbers("r", 21, 1);
    assert_eq!(stream.sequences(1), [21]);
}

#[test]
fn a_stream_that_is_trimmed_under_a_reader_that_lags() {
    let setup = Setup::redis();
    let (_hub, mut stream, told, gap) = comes_back_trimmed(&setup, "5");
    assert_eq!(gap["oldest"], told["events"][15]["id"]);
    assert_eq!(stream.sequences(5), [16, 17, 18, 19, 20]);
}

/// What a foreign program adds that numbers nothing. The last one's id.
fn adds_unnumbered(redis: &RedisServer, count: usize, data: &str) -> String {
    let mut adds = redis::pipe();
    for _ in 0..count {
        let fields = [("event_category", "a"), ("event_action", "b"), ("data", data)];
        adds.cmd("XADD").arg("run:r:events").arg("*").arg(&fields);
    }
    let ids: Vec<String> = adds.query(&mut redis.connection()).unwrap();
    ids.last().unwrap().clone()
}

/// Trims the run to so many events. The oldest one's id.
fn trims(redis: &RedisServer, kept: &str) -> String {
    let _: u64 = redis.command(&["XTRIM", "run:r:events", "MAXLEN", kept]);
    let range = ["XRANGE", "run:r:events", "-", "+", "COUNT", "1"];
    let oldest: Vec<(String, redis::Value)> = redis.command(&range);
    oldest[0].0.clone()
}

#[test]
fn a_stream_without_numbers_that_is_trimmed_under_a_reader_that_lags() {
    let setup = Setup::redis();
    let (hub, redis) = (setup.hub(), setup.redis_server());
    let connection = Request::new("GET", "/runs/r/events/stream").open(hub.port);
    until("the reader has fallen behind", || {
        adds_unnumbered(redis, 100, &format!("\"{}\"", "x".repeat(20_000)));
        let metrics = hub.get("/metrics").text().to_owned();
        let line = metrics.lines().find(|l| l.starts_with("runhub_subscriber_catch_ups_total"));
        line.is_some_and(|line| !line.ends_with(" 0")).then_some(())
    });
    // More than what is on its way to the reader by now.
    adds_unnumbered(redis, 500, "1");
    let oldest = trims(redis, "5");
    let mut stream = Stream::of(connection);
    let mut last = Value::Null;
    let gap = loop {
        match stream.next_real() {
            Frame::Event { data, .. } => last = data["id"].clone(),
            Frame::Control { name, data } => break (name, data),
            Frame::Comment(_) | Frame::Retry(_) | Frame::End => panic!("the stream goes on"),
        }
    };
    let missing =
        json!({ "reason": "trimmed", "requested": last, "oldest": oldest, "missed": null });
    assert_eq!(gap, ("gap".to_owned(), missing));
    assert_eq!(stream.event().0, oldest);
}

#[test]
fn a_stream_without_numbers_that_is_trimmed_while_the_hub_cannot_read() {
    let setup = Setup::redis();
    let proxy = Proxy::to(setup.redis_server().port);
    let setup = setup.set("REDIS__URL", &format!("redis://127.0.0.1:{}/0", proxy.port));
    let (hub, redis) = (setup.hub(), setup.redis_server());
    let last = adds_unnumbered(redis, 20, "1");
    let mut stream = hub.follow("/runs/r/events/stream");
    (0..20).for_each(|_| drop(stream.event()));
    proxy.refuse(true);
    proxy.reset_existing();
    hub.until_mode("degraded");
    adds_unnumbered(redis, 100, "2");
    let oldest = trims(redis, "20");
    proxy.refuse(false);
    let missing =
        json!({ "reason": "trimmed", "requested": last, "oldest": oldest, "missed": null });
    assert_eq!(stream.control(), ("gap".to_owned(), missing));
    assert_eq!(stream.event().0, oldest);
    (0..19).for_each(|_| drop(stream.event()));
    // Of what follows nothing is missing.
    let next = adds_unnumbered(redis, 1, "3");
    assert_eq!(stream.event().0, next);
}
