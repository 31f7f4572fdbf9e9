//! The command line: starting, failing to start, publish and tail; the other commands have a file each.

mod check;
mod demo;
mod history;
mod runs;

use crate::common::{Hub, Request, Setup, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};

fn output(setup: &Setup, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = setup.command();
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap()
}

/// The lines on standard output of a command that succeeds.
#[track_caller]
fn lines(setup: &Setup, args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let output = output(setup, args, variables);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn address(hub: &Hub) -> String {
    format!("http://127.0.0.1:{}", hub.port)
}

#[track_caller]
fn fails(setup: &Setup, args: &[&str], variables: &[(&str, &str)], code: i32, named: &str) {
    let output = output(setup, args, variables);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(named) && !said.contains("panicked"), "{said}");
}

#[test]
fn a_start_that_cannot_be_says_why_in_one_line() {
    let setup = Setup::embedded();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&setup, &["serve", "--bind", &address], &[], 1, &format!("cannot listen on {address}"));
    fails(&setup, &["--bind", "here"], &[], 2, "flag --bind: bad value for server.bind");
    fails(&setup, &[], &[("RUNHUB_PUBLISH__TIMEOT", "1s")], 2, "unknown key publish.timeot");
    fails(&setup, &[], &[("RUNHUB_PUBLISH__TIMEOUT", "soon")], 2, "bad value for publish.timeout");
    fails(&setup, &["serve", "--config", "/nowhere.toml"], &[], 2, "/nowhere.toml");
    fails(&setup, &["--bind", "127.0.0.1:0", "serve"], &[], 2, "--help");
    fails(&setup, &[], &[("RUNHUB_LOG__LEVEL", "loud")], 2, "bad value for log.level");
    fails(
        &setup,
        &[],
        &[("RUNHUB_SUBSCRIBE__HEARTBEAT", "0s")],
        2,
        "bad value for subscribe.heartbeat",
    );
    let free = ["serve", "--bind", "127.0.0.1:0"];
    fails(
        &setup,
        &free,
        &[("REDIS_URL", "http://:hunter2@x")],
        2,
        "the Redis URL http://x cannot be used",
    );
    fails(&setup, &free, &[("REDIS_URL", "redis-sentinel://h:1")], 2, "redis-sentinel://");
    fails(
        &setup,
        &free,
        &[("RUNHUB_DATA_DIR", "/proc/nowhere")],
        1,
        "cannot open the data folder /proc/nowhere",
    );
    let _running = setup.hub();
    fails(&setup, &free, &[], 1, "is in use by another hub");
    let few = Setup::embedded().with_few_files(60);
    fails(&few, &free, &[], 1, "only 60 files may be open at once");
}

#[test]
fn what_of_the_dotenv_file_is_the_hubs_own_must_be_readable() {
    let setup = Setup::embedded();
    let file = setup.data_dir().with_file_name(".env");
    std::fs::write(&file, "APP_NAME=My App\nRUNHUB_BIND=here\n").unwrap();
    fails(&setup, &["serve"], &[], 2, "RUNHUB_BIND: bad value for server.bind");
    fails(&setup, &["serve"], &[("RUNHUB_SERVER__BIND", "there")], 2, "RUNHUB_SERVER__BIND: bad");
    std::fs::write(&file, "X=1\nREDIS_URL=redis://h/0 secret\n").unwrap();
    fails(&setup, &["serve"], &[], 2, ".env, line 2: the value of REDIS_URL cannot be read");
    assert!(!String::from_utf8(output(&setup, &["serve"], &[]).stderr).unwrap().contains("secret"));
}

#[test]
fn where_nothing_can_be_written_nothing_panics() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let setup = Setup::embedded();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut serve = setup.command();
    let mut serve = serve.args(["serve", "--bind", &address]).stderr(full()).spawn().unwrap();
    until("the hub serves", || {
        Request::new("GET", "/health/ready").try_send(port).ok().filter(|a| a.status == 200)
    });
    let mut publish = setup.command();
    publish.args(["publish", "r", "a.b"]).env("RUNHUB_URL", format!("http://{address}"));
    let told = publish.stdout(full()).output().unwrap();
    let said = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    // Whoever read what it says may be gone.
    publish.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut publish = publish.spawn().unwrap();
    drop(publish.stdout.take());
    assert_eq!(publish.wait().unwrap().code(), Some(0));
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn a_start_says_what_a_newcomer_needs() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let log = hub.log();
    for fact in [
        "listening on http://127.0.0.1:",
        "store: embedded in ",
        "data folder: ",
        "curl -N http://",
        "curl -d '{\"type\"",
    ] {
        assert!(log.contains(fact), "{log}");
    }
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let redis = Setup::redis();
    let log = redis.hub().log();
    assert!(
        log.contains(&format!("store: Redis at redis://127.0.0.1:{}/0", redis.redis_server().port)),
        "{log}"
    );
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn publish_and_tail_talk_to_a_hub() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    let url = address(&hub);
    let url = [("RUNHUB_URL", url.as_str())];
    let published = output(&setup, &["publish", "r", "llm.stream", r#"{"n":1.10}"#], &url);
    let told: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!((published.status.code(), &told["status"]), (Some(0), &json!("persisted")));
    let mut tail = setup.command();
    tail.args(["tail", "r", "--json"]).envs(url).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tail = tail.spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains(r#""data":{"n":1.10}"#), "{first}");
    let mut piped = setup.command();
    piped
        .args(["publish", "r", "tool.start", "-"])
        .envs(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut piped = piped.spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"{\"x\":\n2}").unwrap();
    assert!(piped.wait().unwrap().success());
    assert!(lines.next().unwrap().unwrap().contains(r#""action":"start""#));
    hub.publish("r", &json!({ "type": "lifecycle.completed" }));
    assert!(lines.next().unwrap().unwrap().contains(r#""action":"completed""#));
    assert_eq!(tail.wait().unwrap().code(), Some(0));
    let readable = output(&setup, &["tail", "r", "--types", "tool.*"], &url);
    let text = String::from_utf8(readable.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let words: Vec<&str> = text.split_whitespace().collect();
    // 12:00:00.001, and no colours into a pipe.
    assert!(words[0].len() == 12 && words[0].as_bytes()[2] == b':', "{text}");
    assert_eq!(words[1..], ["2", "-", "tool.start", r#"{"x":2}"#], "{text}");
    fails(&setup, &["publish", "r", "nonsense"], &url, 2, "category.action");
    fails(&setup, &["publish", "r", "a.b", "{"], &url, 2, "DATA is not JSON");
    fails(&setup, &["tail", "r", "--from", "middle"], &url, 2, "--from");
    fails(&setup, &["tail", "r", "--types", "X"], &url, 2, "INVALID_QUERY");
    fails(&setup, &["tail", "r", "--deltas", "whole"], &url, 2, "--help");
    let nobody = [("RUNHUB_URL", "http://127.0.0.1:1")];
    fails(&setup, &["publish", "r", "a.b"], &nobody, 1, "cannot reach a hub at http://127.0.0.1:1");
    hub.send(Request::new("DELETE", "/runs/r"));
    assert_eq!(output(&setup, &["no-such-command"], &url).status.code(), Some(2));
}

#[test]
fn tail_ends_when_nobody_reads_it_any_more() {
    let setup = Setup::embedded();
    let hub = setup.hub();
    hub.publish_numbers("r", 1, 1);
    let mut tail = setup.command();
    tail.args(["tail", "r", "--url", &format!("http://127.0.0.1:{}", hub.port)]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // Nothing more comes, and the run goes on.
    drop(lines);
    let ended = until("tail ends", || tail.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn tail_goes_on_after_a_lost_connection() {
    let setup = Setup::embedded();
    let mut hub = setup.hub();
    let port = hub.port;
    hub.publish_numbers("r", 1, 3);
    let mut tail = setup.command();
    tail.args(["tail", "r", "--json", "--url", &format!("http://127.0.0.1:{port}")]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut sequences = |count: usize| -> Vec<u64> {
        let lines = lines.by_ref().take(count);
        lines
            .map(|l| {
                serde_json::from_str::<Value>(&l.unwrap()).unwrap()["sequence"].as_u64().unwrap()
            })
            .collect()
    };
    assert_eq!(sequences(3), [1, 2, 3]);
    hub.kill();
    let hub = setup.hub_at(port);
    hub.publish_numbers("r", 4, 2);
    assert_eq!(sequences(2), [4, 5]);
    tail.kill().unwrap();
    tail.wait().unwrap();
}
