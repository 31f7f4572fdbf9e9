//! Streams that other programs keep writing to: a connection waits at each, and its events come once and in order
//! whatever becomes of that connection.

use super::event;
use crate::common::{Hub, RedisServer, Setup, Stream, until};
use serde_json::json;

/// A program that adds events to runs.
struct Writer<'a> {
    redis: &'a RedisServer,
    connection: redis::Connection,
    runs: &'a [&'a str],
    /// The number of the last event, which each of the runs has.
    last: u64,
}

impl<'a> Writer<'a> {
    fn new(redis: &'a RedisServer, runs: &'a [&'a str]) -> Self {
        Self { redis, connection: redis.connection(), runs, last: 0 }
    }

    /// Adds an event to each run.
    fn add(&mut self) {
        self.last += 1;
        let data = json!({ "n": self.last }).to_string();
        for run in self.runs {
            let mut command = redis::cmd("XADD");
            command.arg(format!("run:{run}:events")).arg("*").arg("sequence").arg(self.last);
            command.arg("event_category").arg("llm").arg("event_action").arg("stream");
            let () = command.arg("data").arg(&data).query(&mut self.connection).unwrap();
        }
    }

    /// Writes on until so many connections wait at streams, and says which.
    fn until_waited_at_by(&mut self, count: usize) -> Vec<String> {
        until("each busy stream is waited at", || {
            self.add();
            Some(waiting(self.redis)).filter(|waiting| waiting.len() == count)
        })
    }
}

/// The connections that wait for events, by their ids.
fn waiting(redis: &RedisServer) -> Vec<String> {
    let clients: String = redis.command(&["CLIENT", "LIST"]);
    let field = |client: &str, name: &str| -> String {
        let field = client.split(' ').find_map(|field| field.strip_prefix(name));
        field.unwrap_or_default().to_owned()
    };
    let waits = |client: &&str| field(client, "flags=").contains('b');
    clients.lines().filter(waits).map(|client| field(client, "id=")).collect()
}

/// A hub with a reader of each of the runs, and another program that writes to them.
fn followed<'a>(setup: &'a Setup, runs: &'a [&'a str]) -> (Hub, Vec<Stream>, Writer<'a>) {
    let hub = setup.hub();
    let follow = |run: &&str| hub.follow(&format!("/runs/{run}/events/stream"));
    let streams = runs.iter().map(follow).collect();
    (hub, streams, Writer::new(setup.redis_server(), runs))
}

#[track_caller]
fn have_all(streams: &mut [Stream], last: u64) {
    for stream in streams {
        let count = usize::try_from(last).unwrap();
        assert_eq!(stream.sequences(count), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_stream_is_read_on_a_connection_that_stays() {
    // None waits at a stream here.
    let setup = Setup::redis().set("REDIS__MAX_READERS", "1");
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/a/events/stream");
    let mut writer = Writer::new(setup.redis_server(), &["a"]);
    let mut next = |number: u64| {
        writer.add();
        assert_eq!(stream.sequences(1), [number]);
        let told: String = redis::cmd("INFO").arg("stats").query(&mut writer.connection).unwrap();
        let (_, count) = told.split_once("total_connections_received:").unwrap();
        count.lines().next().unwrap().parse::<u64>().unwrap()
    };
    let before = (1..=5).map(&mut next).last().unwrap();
    let after = (6..=50).map(next).last().unwrap();
    assert!(after - before < 5, "{} connections for 45 events", after - before);
}

#[test]
fn connections_that_wait_are_lost_and_made_again() {
    let setup = Setup::redis();
    let (redis, runs) = (setup.redis_server(), ["a", "b", "c"]);
    let (hub, mut streams, mut writer) = followed(&setup, &runs);
    for id in writer.until_waited_at_by(3) {
        let _: u64 = redis.command(&["CLIENT", "KILL", "ID", &id]);
    }
    writer.add();
    let last = writer.last;
    have_all(&mut streams, last);
    writer.until_waited_at_by(3);
    redis.freeze();
    hub.until_mode("degraded");
    redis.thaw();
    hub.until_mode("normal");
    writer.until_waited_at_by(3);
    for stream in &mut streams {
        let count = usize::try_from(writer.last - last).unwrap();
        assert_eq!(stream.sequences(count), (last + 1..=writer.last).collect::<Vec<_>>());
    }
}

#[test]
fn no_more_connections_wait_than_there_may_be() {
    let setup = Setup::redis().set("REDIS__MAX_READERS", "11");
    let runs = ["a", "b", "c", "d", "e"];
    let (_hub, mut streams, mut writer) = followed(&setup, &runs);
    writer.until_waited_at_by(2);
    for _ in 0..100 {
        writer.add();
        assert!(waiting(setup.redis_server()).len() <= 2);
    }
    have_all(&mut streams, writer.last);
}

#[test]
fn connections_that_wait_leave_half_of_a_server_with_few_clients_to_others() {
    let setup = Setup::redis();
    let (redis, runs) = (setup.redis_server(), ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let () = redis.command(&["CONFIG", "SET", "maxclients", "24"]);
    let (_hub, mut streams, mut writer) = followed(&setup, &runs);
    until("some wait", || {
        writer.add();
        (!waiting(redis).is_empty()).then_some(())
    });
    for _ in 0..200 {
        writer.add();
        let clients: String = redis.command(&["CLIENT", "LIST"]);
        assert!(clients.lines().count() <= 24 / 2 + 3, "{clients}");
    }
    have_all(&mut streams, writer.last);
}

#[test]
fn a_stream_that_the_hub_appends_to_is_not_waited_at() {
    let setup = Setup::redis();
    let (hub, mut streams, mut writer) = followed(&setup, &["a"]);
    writer.until_waited_at_by(1);
    let mut last = writer.last;
    until("nothing is waited for", || {
        last += 1;
        hub.publish("a", &event(last));
        waiting(setup.redis_server()).is_empty().then_some(())
    });
    have_all(&mut streams, last);
}

#[test]
fn a_stream_that_is_waited_at_begins_anew() {
    let setup = Setup::redis();
    let (_hub, mut streams, mut writer) = followed(&setup, &["a"]);
    writer.until_waited_at_by(1);
    have_all(&mut streams, writer.last);
    setup.redis_server().roll_back("a");
    let (name, gap) = streams[0].control();
    assert_eq!((name.as_str(), gap["reason"].as_str()), ("gap", Some("reset")), "{gap}");
    assert_eq!(streams[0].event().0, "1000-0");
}
