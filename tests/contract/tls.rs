//! Redis over TLS: one server, sentinels, a cluster. The authority is the test's own; the hub believes what the system
//! does.

use crate::common::redis_server::free_port;
use crate::common::tls::arguments;
use crate::common::{Authority, RedisCluster, RedisServer, Sentinels, Setup};

/// A server that listens for clients with TLS, too, and where.
fn server(authority: &Authority) -> (RedisServer, u16) {
    let port = free_port();
    let options = arguments(&authority.options(port));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    (RedisServer::with(&options), port)
}

/// A hub that trusts the authority, on this URL.
fn setup(url: &str, authority: &Authority) -> Setup {
    Setup::embedded()
        .environment("REDIS_URL", url)
        .environment("SSL_CERT_FILE", &authority.certificate())
}

/// Events of several runs are published, stored and read.
fn serves(setup: &Setup) {
    let hub = setup.hub();
    for run in ["a", "b", "c", "d"] {
        let mut stream = hub.follow(&format!("/runs/{run}/events/stream"));
        hub.publish_numbers(run, 1, 3);
        assert_eq!(stream.sequences(3), [1, 2, 3]);
        assert_eq!(hub.history(run).len(), 3);
    }
    assert_eq!(hub.get("/runs").json()["runs"].as_array().map(Vec::len), Some(4));
}

#[test]
fn one_server() {
    let authority = Authority::new();
    let (redis, port) = server(&authority);
    serves(&setup(&format!("rediss://localhost:{port}/0"), &authority));
    assert_eq!(redis.command::<u64>(&["XLEN", "run:a:events"]), 3);
}

#[test]
fn sentinels() {
    let authority = Authority::new();
    let (redis, port) = server(&authority);
    let (_sentinels, url) = Sentinels::with_tls(port, &authority);
    serves(&setup(&url, &authority));
    assert_eq!(redis.command::<u64>(&["XLEN", "run:a:events"]), 3);
}

#[test]
fn a_cluster() {
    let authority = Authority::new();
    let cluster = RedisCluster::start_with_tls(3, &authority);
    serves(&setup(&cluster.url(), &authority));
    let holder = &cluster.servers[cluster.holder("run:{a}:events")];
    assert_eq!(holder.command::<u64>(&["XLEN", "run:{a}:events"]), 3);
}

#[test]
fn a_server_whose_authority_is_unknown_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_redis, port) = server(&authority);
    let cluster = RedisCluster::start_with_tls(3, &authority);
    let (_sentinels, by_sentinel) = Sentinels::with_tls(port, &authority);
    for url in [format!("rediss://localhost:{port}/0"), by_sentinel, cluster.url()] {
        let setup = setup(&url, &other);
        let check = setup.command().arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&check.stderr) + String::from_utf8_lossy(&check.stdout);
        assert!(!check.status.success() && said.contains("certificate"), "{url}: {said}");
    }
}
