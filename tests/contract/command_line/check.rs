//! `runhub check`.

use super::{address, fails, lines, output};
use crate::common::Setup;

/// The lines of a check that finds faults.
#[track_caller]
fn faults(setup: &Setup, args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let output = output(setup, &[&["check"], args].concat(), variables);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let faults = said.lines().filter(|line| !line.starts_with("ok")).map(str::to_owned);
    let faults: Vec<String> = faults.collect();
    assert!(faults.iter().all(|line| line.starts_with("FAILED  ")), "{said}");
    let counted = String::from_utf8(output.stderr).unwrap();
    assert_eq!(counted.lines().count(), 1, "{counted}");
    faults
}

#[track_caller]
fn has(lines: &[String], named: &[&str]) {
    for named in named {
        assert!(lines.iter().any(|line| line.contains(named)), "{named}: {lines:?}");
    }
}

#[test]
fn a_check_of_the_embedded_store_changes_nothing() {
    let setup = Setup::embedded();
    let before = lines(&setup, &["check"], &[]);
    let data = setup.data_dir();
    has(
        &before,
        &["ok      configuration: ", "data can be made", "store: embedded in", "not made yet"],
    );
    assert!(!data.exists() && before.len() == 4, "{before:?}");

    let mut hub = setup.hub();
    hub.publish_numbers("r", 1, 3);
    let url = address(&hub);
    let beside = lines(&setup, &["check", "--url", &url], &[]);
    let process = format!("in use by a running hub (process {})", hub.pid());
    has(&beside, &["data can be written", &process, &format!("hub: {url} is ready, mode normal")]);
    assert_eq!(beside.iter().filter(|line| line.contains(&process)).count(), 2, "store and spool");
    assert_eq!(hub.mode(), "normal");
    hub.kill();
    has(&lines(&setup, &["check"], &[]), &["store, not in use", "spool, not in use"]);
    let names = |folder| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(
        names(&data).iter().all(|name| name == "store" || name == "spool"),
        "{:?}",
        names(&data)
    );
    assert_eq!(setup.hub().history("r").len(), 3);
}

#[test]
fn a_check_says_what_cannot_be_reached() {
    let setup = Setup::embedded();
    let nowhere = [("RUNHUB_DATA_DIR", "/proc/nowhere")];
    has(&faults(&setup, &[], &nowhere), &["data folder: /proc/nowhere cannot be made in /proc"]);
    let secret = [
        ("REDIS_URL", "redis://me:hunter2@127.0.0.1:1/0"),
        ("RUNHUB_URL", "http://me:hunter2@127.0.0.1:1"),
    ];
    let away = faults(&setup, &[], &secret);
    has(&away, &["store: Redis at redis://127.0.0.1:1/0: the store cannot be reached"]);
    has(&away, &["hub: cannot reach a hub at http://127.0.0.1:1"]);
    assert!(away.len() == 2 && !away.concat().contains("hunter2"), "{away:?}");
}

#[test]
fn a_check_takes_the_configuration_as_serve_does() {
    let setup = Setup::embedded();
    fails(&setup, &["check", "--bind", "here"], &[], 2, "flag --bind: bad value for server.bind");
    fails(&setup, &["check", "--config", "/nowhere.toml"], &[], 2, "/nowhere.toml");
    let odd = [("REDIS_URL", "http://:hunter2@x")];
    fails(&setup, &["check"], &odd, 2, "the Redis URL http://x cannot be used");
    fails(&setup, &["check", "--url", "hub:8082"], &[], 2, "hub:8082 is no address of a hub");
    let elsewhere = setup.data_dir().join("other");
    let flags = ["check", "--data-dir", elsewhere.to_str().unwrap()];
    has(&lines(&setup, &flags, &[]), &["data/other can be made"]);
}

#[test]
fn a_check_of_redis_writes_nothing() {
    let setup = Setup::redis();
    let redis = setup.redis_server();
    let place = format!("ok      store: Redis at redis://127.0.0.1:{}/0 answers", redis.port);
    has(&lines(&setup, &["check"], &[]), &[&place]);
    assert_eq!(redis.command::<u64>(&["DBSIZE"]), 0);
    redis.command::<String>(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let refused = faults(&setup, &[], &[]);
    has(&refused, &["store: Redis at", "NOAUTH"]);
}
