//! The primary is lost and sentinels make its replica the primary: the hub finds it by itself, streams stay open,
//! and nothing that the replica had is lost, doubled or reordered.

use super::{goes_on_behind_the_third, holds_all, publishes_until_stored, spools_in_time};
use crate::common::{Hub, RedisServer, Sentinels, Setup, Stream, until};

/// A primary and a replica that follows it.
fn pair() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start();
    let port = primary.port.to_string();
    let replica =
        RedisServer::with(&["--appendonly", "yes", "--replicaof", "127.0.0.1", port.as_str()]);
    replica.until_it_follows();
    (primary, replica)
}

fn setup(url: &str) -> Setup {
    Setup::embedded().environment("REDIS_URL", url).set("PUBLISH__TIMEOUT", "1s")
}

/// A hub that finds its Redis by sentinels, and a reader of run `r`, which has three events.
struct Stage {
    hub: Hub,
    stream: Stream,
    _setup: Setup,
    sentinels: Sentinels,
    primary: RedisServer,
    replica: RedisServer,
}

impl Stage {
    fn new() -> Self {
        let (primary, replica) = pair();
        let sentinels = Sentinels::over(&primary, 3);
        let setup = setup(&sentinels.url_after(&[]));
        let hub = setup.hub();
        let stream = hub.follow("/runs/r/events/stream");
        hub.publish_numbers("r", 1, 3);
        until("the replica has everything", || (length(&replica) == 3).then_some(()));
        Self { hub, stream, _setup: setup, sentinels, primary, replica }
    }

    /// The run holds all events up to this number, and its reader gets them.
    fn holds_and_tells_all(&mut self, last: u64) {
        holds_all(&self.hub, last);
        (1..=last).for_each(|sequence| assert_eq!(self.stream.sequences(1), [sequence]));
    }
}

/// How many events a server has of run `r`.
fn length(server: &RedisServer) -> u64 {
    server.command(&["XLEN", "run:r:events"])
}

#[test]
fn sentinels_replace_a_primary_that_is_killed() {
    let mut stage = Stage::new();
    stage.primary.kill();
    spools_in_time(&stage.hub, 4);
    let last = publishes_until_stored(&stage.hub, 5);
    assert_eq!(stage.sentinels.primary(), Some(stage.replica.port));
    stage.holds_and_tells_all(last);
    assert_eq!(length(&stage.replica), last);
}

#[test]
fn a_primary_that_was_frozen_and_replaced_is_not_written_to_when_it_wakes() {
    let mut stage = Stage::new();
    stage.primary.freeze();
    spools_in_time(&stage.hub, 4);
    let last = publishes_until_stored(&stage.hub, 5);
    stage.primary.thaw();
    let last = publishes_until_stored(&stage.hub, last + 1);
    stage.holds_and_tells_all(last);
    until("the old primary follows the new one, and has the same", || {
        (stage.primary.is_replica() && length(&stage.primary) == last).then_some(())
    });
}

#[test]
fn readers_are_told_when_the_new_primary_lacks_the_newest_events() {
    let Stage { hub, mut stream, _setup, sentinels: _sentinels, mut primary, replica } =
        Stage::new();
    primary.lose_replicas();
    hub.publish_numbers("r", 4, 2);
    assert_eq!(stream.sequences(5), [1, 2, 3, 4, 5]);
    assert_eq!(length(&replica), 3);
    primary.kill();
    goes_on_behind_the_third(&hub, &mut stream);
}

#[test]
fn a_sentinel_that_names_a_server_that_is_gone_is_not_the_last_word() {
    let mut gone = RedisServer::start();
    let cut_off = Sentinels::over(&gone, 1);
    gone.kill();
    let primary = RedisServer::start();
    let sentinels = Sentinels::over(&primary, 1);
    let setup = setup(&sentinels.url_after(&[&cut_off]));
    let hub = setup.hub();
    assert_eq!(cut_off.primary(), Some(gone.port));
    hub.publish_numbers("r", 1, 3);
    holds_all(&hub, 3);
    assert_eq!(length(&primary), 3);
}

#[test]
fn what_sentinels_answered_is_told_without_their_password() {
    let mut primary = RedisServer::start();
    let sentinels = Sentinels::over(&primary, 1);
    primary.kill();
    let url = sentinels.url_after(&[]);
    let (setup, other) = (setup(&url), setup(&url.replace("/main?", "/other?")));
    let hub = setup.hub_unready();
    until("the hub says what is wrong", || {
        hub.log().contains(&format!("127.0.0.1:{}: ", primary.port)).then_some(())
    });
    let unknown = other.hub_unready();
    until("the hub says which name is unknown", || {
        unknown.log().contains("it knows no master with the name \"other\"").then_some(())
    });
    for hub in [hub, unknown] {
        assert!(!hub.log().contains("s3ntinel"), "{}", hub.log());
        assert!(!hub.get("/health/ready").text().contains("s3ntinel"));
    }
}
