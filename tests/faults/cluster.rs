//! A Redis Cluster loses servers and moves slots: the hub finds out by itself who has which runs, streams stay open, and
//! nothing is lost, doubled or reordered.

use super::{
    event, goes_on_behind_the_third, holds_all, numbers, publishes_until_stored, spools_in_time,
    until_drained,
};
use crate::common::{Hub, RedisCluster, RedisServer, Request, Setup, Stream, until};
use serde_json::json;
use std::time::{Duration, Instant};

/// The key of a run's events.
fn key(run: &str) -> String {
    format!("run:{{{run}}}:events")
}

fn setup(cluster: &RedisCluster) -> Setup {
    Setup::embedded().environment("REDIS_URL", &cluster.url()).set("PUBLISH__TIMEOUT", "1s")
}

/// A hub on a cluster, and a reader of run `r`, which has three events.
fn stage(cluster: &RedisCluster) -> (Setup, Hub, Stream) {
    let setup = setup(cluster);
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish_numbers("r", 1, 3);
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    (setup, hub, stream)
}

/// The hub's names of its runs, newest activity first.
fn listed(hub: &Hub) -> Vec<String> {
    let page = hub.get("/runs?limit=100").json();
    let runs = page["runs"].as_array().unwrap();
    runs.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn runs_live_on_all_servers_and_each_is_served_from_where_it_is() {
    let cluster = RedisCluster::start(3);
    let setup = setup(&cluster);
    let hub = setup.hub();
    let runs: Vec<String> = (1..=12).map(|n| format!("run-{n}")).collect();
    // Runs of several servers in one request, and on one stream.
    let events: Vec<_> = runs.iter().map(|run| json!({ "run_id": run, "type": "a.b" })).collect();
    let told = hub.post("/events", json!(events).to_string());
    assert_eq!(told.status, 201, "{}", told.text());
    let mut holders: Vec<_> = runs.iter().map(|run| cluster.holder(&key(run))).collect();
    holders.sort_unstable();
    holders.dedup();
    assert_eq!(holders, [0, 1, 2]);
    let mut all = hub.follow(&format!("/events/stream?runs={}", runs.join(",")));
    (0..runs.len()).for_each(|_| assert_eq!(all.event().1["sequence"], 1));
    // The last that was active is the first on the list; what is deleted is on it no more.
    for run in &runs {
        hub.publish_numbers(run, 2, 1);
        assert_eq!(listed(&hub).first(), Some(run));
    }
    assert_eq!(hub.send(Request::new("DELETE", "/runs/run-7")).status, 204);
    let list = listed(&hub);
    assert_eq!((list.len(), list.contains(&"run-7".to_owned())), (runs.len() - 1, false));
    // Other programs write where the cluster says, and are heard.
    let holder = &cluster.servers[cluster.holder(&key("run-1"))];
    let mut stream = hub.follow("/runs/run-1/events/stream");
    assert_eq!(stream.sequences(2), [1, 2]);
    holder.xadd(&key("run-1"), &[("event_category", b"a"), ("event_action", b"foreign")]);
    assert_eq!(stream.event().1["event"]["action"], "foreign");
    // Another hub on the cluster serves the same, and both count on.
    let setup = setup.with_another_folder();
    let other = setup.hub();
    let once = json!({ "type": "a.b", "event_id": "once" });
    let first = hub.publish("run-2", &once);
    let again = other.post("/runs/run-2/events", once.to_string());
    assert_eq!((again.status, &again.json()["events"]), (200, &first["events"]));
    other.publish_numbers("run-1", 4, 1);
    assert_eq!(stream.event().1["event"]["action"], "stream");
}

/// The replica of a server.
fn replica_of(cluster: &RedisCluster, number: usize) -> &RedisServer {
    let master = format!("master_port:{}\r", cluster.servers[number].port);
    let is_its = |replica: &&RedisServer| {
        replica.command::<String>(&["INFO", "replication"]).contains(&master)
    };
    cluster.servers.iter().find(is_its).expect("the server has a replica")
}

/// Waits until the replica of a server has all that was written to it.
fn until_replicated(cluster: &RedisCluster, number: usize) {
    let offset = |server: &RedisServer, name: &str| -> Option<u64> {
        let info: String = server.command(&["INFO", "replication"]);
        info.split_once(name)?.1.lines().next()?.parse().ok()
    };
    let replica = replica_of(cluster, number);
    until("the replica has everything", || {
        let written = offset(&cluster.servers[number], "master_repl_offset:")?;
        (offset(replica, "slave_repl_offset:")? >= written).then_some(())
    });
}

#[test]
fn a_replica_takes_over_from_a_server_that_is_killed() {
    let mut cluster = RedisCluster::start(3).with_replicas();
    let (_setup, hub, mut stream) = stage(&cluster);
    let holder = cluster.holder(&key("r"));
    until_replicated(&cluster, holder);
    cluster.servers[holder].kill();
    spools_in_time(&hub, 4);
    let last = publishes_until_stored(&hub, 5);
    holds_all(&hub, last);
    (4..=last).for_each(|sequence| assert_eq!(stream.sequences(1), [sequence]));
    // The old one comes back as a replica, and changes nothing.
    cluster.servers[holder].start_again();
    until("the old server is a replica", || cluster.servers[holder].is_replica().then_some(()));
    hub.publish_numbers("r", last + 1, 2);
    assert_eq!(stream.sequences(2), [last + 1, last + 2]);
}

#[test]
fn readers_are_told_when_a_replica_lacks_the_newest_events() {
    let mut cluster = RedisCluster::start(3).with_replicas();
    let (_setup, hub, mut stream) = stage(&cluster);
    let holder = cluster.holder(&key("r"));
    until_replicated(&cluster, holder);
    cluster.servers[holder].lose_replicas();
    hub.publish_numbers("r", 4, 2);
    assert_eq!(stream.sequences(2), [4, 5]);
    cluster.servers[holder].kill();
    goes_on_behind_the_third(&hub, &mut stream);
}

#[test]
fn a_server_without_a_replica_is_waited_for() {
    let mut cluster = RedisCluster::start(3);
    let (_setup, hub, mut stream) = stage(&cluster);
    let holder = cluster.holder(&key("r"));
    cluster.servers[holder].kill();
    spools_in_time(&hub, 4);
    hub.until_mode("degraded");
    cluster.servers[holder].start_again();
    assert_eq!(stream.sequences(1), [4]);
    until_drained(&hub);
    hub.publish_numbers("r", 5, 1);
    assert_eq!(stream.sequences(1), [5]);
    assert_eq!(stream.modes, ["degraded", "recovered"]);
    holds_all(&hub, 5);
}

#[test]
fn a_slot_that_moves_takes_its_runs_with_it() {
    let cluster = RedisCluster::start(3);
    let (_setup, hub, mut stream) = stage(&cluster);
    let (from, to) = (cluster.holder(&key("r")), (cluster.holder(&key("r")) + 1) % 3);
    // All is gone from the one, and the other does not take it yet from those who do not ask twice.
    let moving = cluster.begin_to_move(&key("r"), to);
    hub.publish_spooled("r", &event(4));
    // That is nothing to the others, however long it takes.
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        number += 1;
        hub.publish_numbers("other", number, 1);
        assert_ne!(hub.mode(), "degraded");
        assert_eq!(hub.get("/runs").status, 200);
    }
    cluster.end_move(&moving);
    until_drained(&hub);
    assert_eq!(cluster.holder(&key("r")), to);
    assert_eq!(stream.sequences(1), [4]);
    hub.publish_numbers("r", 5, 2);
    assert_eq!(stream.sequences(2), [5, 6]);
    // And back, with nobody publishing meanwhile, and another program afterwards.
    cluster.end_move(&cluster.begin_to_move(&key("r"), from));
    cluster.servers[from].xadd(&key("r"), &[("sequence", b"7"), ("data", b"{\"n\":7}")]);
    assert_eq!(stream.sequences(1), [7]);
    assert_eq!(numbers(&hub, "r"), (1..=7).collect::<Vec<_>>());
    assert!(!hub.log().contains("panicked"), "{}", hub.log());
}

#[test]
fn runs_of_other_programs_are_found_on_every_server() {
    let cluster = RedisCluster::start(3);
    let hub_setup = setup(&cluster).set("REDIS__DISCOVER", "true");
    let hub = hub_setup.hub();
    let mut runs: Vec<String> = (1..=9).map(|n| format!("foreign-{n}")).collect();
    for run in &runs {
        cluster.servers[cluster.holder(&key(run))].xadd(&key(run), &[("data", b"1")]);
    }
    runs.sort();
    until("all are listed", || {
        let mut list = listed(&hub);
        list.sort();
        (list == runs).then_some(())
    });
}

#[test]
fn what_cannot_be_a_cluster_is_said() {
    let single = RedisServer::start();
    let url = format!("redis-cluster://user:s3cret@127.0.0.1:{}", single.port);
    let hub = Setup::embedded().environment("REDIS_URL", &url).hub_unready();
    until("the hub says what is wrong", || {
        hub.log().contains("cannot ask the Redis Cluster").then_some(())
    });
    assert!(!hub.log().contains("s3cret"), "{}", hub.log());
    let refused = |url: &str, jobs: &str| {
        let setup = Setup::embedded().environment("REDIS_URL", url).set("REDIS__JOB_STREAMS", jobs);
        let ended = setup.command().arg("serve").output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
        String::from_utf8(ended.stderr).unwrap()
    };
    let told = refused("redis-cluster://a:1,b:port", "false");
    assert!(told.contains("expected redis-cluster://"), "{told}");
    let told = refused("redis-cluster://me:s3cret@a:1", "true");
    assert!(told.contains("set redis.job_streams = false") && !told.contains("s3cret"), "{told}");
}

#[test]
fn a_list_of_runs_that_moves_is_found() {
    let cluster = RedisCluster::start(3);
    let (_setup, hub, _stream) = stage(&cluster);
    let to = (cluster.holder("runs") + 1) % 3;
    let moving = cluster.begin_to_move("runs", to);
    // The list cannot be told for now, which holds up nobody.
    hub.publish_numbers("s", 1, 1);
    cluster.end_move(&moving);
    until("both runs are listed", || {
        let mut list = listed_if_possible(&hub)?;
        list.sort();
        (list == ["r", "s"]).then_some(())
    });
    until("the list says so where it is now", || {
        let list: Vec<String> = cluster.servers[to].command(&["ZRANGE", "runs", "0", "-1"]);
        (list.len() == 2).then_some(())
    });
}

fn listed_if_possible(hub: &Hub) -> Option<Vec<String>> {
    (hub.get("/runs").status == 200).then(|| listed(hub))
}
