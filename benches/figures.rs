//! The figures a user asks for, measured on a real hub process on both stores, with the load beside it on
//! the same machine: `cargo bench --bench figures` (`-- quick` leaves the minute of a stalled reader out).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn main() {
    let quick = std::env::args().any(|a| a == "quick");
    for redis in [false, true] {
        println!(
            "## {}",
            if redis { "Redis, append-only file, everysec" } else { "embedded store, sync always" }
        );
        let mut bench = Bench::start(redis);
        bench.latency();
        bench.history();
        bench.resume();
        bench.kept();
        bench.throughput();
        if redis {
            bench.outage();
        }
        if !quick {
            bench.stalled_reader();
        }
        println!();
    }
}

struct Bench {
    hub: Child,
    redis: Option<(Child, String)>,
    port: u16,
    dir: tempfile::TempDir,
    start: Instant,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let redis = self.redis.as_mut().map(|(child, _)| child);
        for child in [Some(&mut self.hub), redis].into_iter().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn start_redis(port: &str, folder: &std::path::Path) -> Child {
    let mut redis = Command::new("redis-server");
    redis.args(["--port", port, "--save", "", "--appendonly", "yes", "--dir"]).arg(folder);
    redis.stdout(Stdio::null()).spawn().expect("redis-server; tests/run installs it")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Bench {
    fn start(with_redis: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_runhub"));
        let redis = with_redis.then(|| {
            let port = free_port().to_string();
            command.env("REDIS_URL", format!("redis://127.0.0.1:{port}/0"));
            (start_redis(&port, dir.path()), port)
        });
        let port = free_port();
        command.current_dir(dir.path()).args(["serve", "--bind", &format!("127.0.0.1:{port}")]);
        command.env("RUNHUB_DATA_DIR", dir.path().join("data")).stderr(Stdio::null());
        let began = Instant::now();
        let hub = command.spawn().unwrap();
        let bench = Self { hub, redis, port, dir, start: began };
        while !bench.is_ready() {
            assert!(began.elapsed() < Duration::from_secs(20), "the hub does not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        println!("ready after {} ms", began.elapsed().as_millis());
        bench
    }

    fn is_ready(&self) -> bool {
        self.mode_is("normal")
    }

    fn mode_is(&self, mode: &str) -> bool {
        let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        drop(
            connection
                .write_all(b"GET /health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        );
        let mut answer = String::new();
        connection.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
            && answer.contains(&format!(r#""mode":"{mode}""#))
    }

    /// Polls until the hub is in this mode; gives how long that took since `from`.
    fn until_mode(&self, mode: &str, from: Instant) -> Duration {
        while !self.mode_is(mode) {
            assert!(from.elapsed() < Duration::from_secs(120), "the mode never is {mode}");
            std::thread::sleep(Duration::from_millis(2));
        }
        from.elapsed()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    /// `count` events, each with the time in it.
    fn batch(&self, count: usize) -> String {
        let event = format!(
            r#"{{"type":"llm.stream","data":{{"ns":{},"text":"{}"}}}}"#,
            self.now_ns(),
            "x".repeat(200)
        );
        match count {
            1 => event,
            _ => format!("[{}]", vec![event; count].join(",")),
        }
    }

    fn follow(&self, run: &str, last: Option<&str>) -> Reader {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let resume = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        write!(connection, "GET /runs/{run}/events/stream HTTP/1.1\r\nhost: x\r\n{resume}\r\n")
            .unwrap();
        let mut reader = Reader(BufReader::new(connection));
        while reader.line() != "retry: 3000" {}
        reader
    }

    fn latency(&self) {
        const RUNS: usize = 100;
        const EVENTS: usize = 8000;
        let readers: Vec<_> = (0..RUNS)
            .map(|n| {
                let (mut reader, start) = (self.follow(&format!("a{n}"), None), self.start);
                std::thread::spawn(move || {
                    let (mut took, mut wrong) = (Vec::new(), 0);
                    for expected in 1..=EVENTS / RUNS {
                        let line = reader.event();
                        let now = u64::try_from(start.elapsed().as_nanos()).unwrap();
                        took.push(now - number(&line, "\"ns\":"));
                        wrong += usize::from(number(&line, "\"sequence\":") != expected as u64);
                    }
                    (took, wrong)
                })
            })
            .collect();
        let mut publisher = Publisher::connect(self.port);
        let began = Instant::now();
        for n in 0..EVENTS {
            let due = began + Duration::from_millis(n as u64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            publisher.publish(&format!("a{}", n % RUNS), &self.batch(1));
        }
        let results: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        let wrong: usize = results.iter().map(|(_, wrong)| wrong).sum();
        let mut took: Vec<u64> = results.into_iter().flat_map(|(took, _)| took).collect();
        took.sort_unstable();
        let p = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e6;
        println!(
            "100 readers on 100 runs, 1,000 events/s: publish to receive p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, \
             max {:.2} ms; received {} of {EVENTS}, lost, doubled or out of order {wrong}",
            p(0.5),
            p(0.95),
            p(0.99),
            p(1.0),
            took.len()
        );
    }

    fn history(&self) {
        let mut publisher = Publisher::connect(self.port);
        for _ in 0..10 {
            publisher.publish("h", &self.batch(100));
        }
        let mut took = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            let page = publisher.request("GET", "/runs/h/events?limit=1000", "");
            took.push(began.elapsed());
            let sequences: Vec<u64> = page
                .match_indices("\"sequence\":")
                .map(|(i, _)| number(&page[i..], "\"sequence\":"))
                .collect();
            assert_eq!(sequences, (1..=1000).collect::<Vec<_>>());
        }
        took.sort_unstable();
        let page = publisher.request("GET", "/runs/h/events?limit=500", "");
        println!(
            "history: 1,000 events p50 {:.1} ms, max {:.1} ms, each complete and in order; a page of 500 has {}",
            took[25].as_secs_f64() * 1e3,
            took[49].as_secs_f64() * 1e3,
            page.matches("\"sequence\":").count()
        );
    }

    fn resume(&self) {
        let mut publisher = Publisher::connect(self.port);
        publisher.publish("m", &self.batch(50));
        let mut reader = self.follow("m", None);
        let mut last = String::new();
        for _ in 0..50 {
            let line = reader.event();
            last = line.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        }
        drop(reader);
        publisher.publish("m", &self.batch(100));
        let began = Instant::now();
        let mut reader = self.follow("m", Some(&last));
        let seen: Vec<u64> = (0..100).map(|_| number(&reader.event(), "\"sequence\":")).collect();
        let whole = seen == (51..=150).collect::<Vec<_>>();
        println!(
            "100 events missed, then a reconnect: all in order {whole}, after {:.1} ms",
            began.elapsed().as_secs_f64() * 1e3
        );
    }

    fn kept(&self) {
        let mut publisher = Publisher::connect(self.port);
        for _ in 0..15 {
            publisher.publish("k", &self.batch(1000));
        }
        let run = publisher.request("GET", "/runs/k", "");
        println!("15,000 events published to one run: {} kept", number(&run, "\"length\":"));
    }

    fn throughput(&self) {
        let (sender, counts) = mpsc::channel();
        let began = Instant::now();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let sender = sender.clone();
                scope.spawn(move || {
                    let mut publisher = Publisher::connect(self.port);
                    let body = self.batch(100);
                    let mut count = 0;
                    while began.elapsed() < Duration::from_secs(4) {
                        publisher.publish(&format!("t{n}"), &body);
                        count += 100;
                    }
                    sender.send(count).unwrap();
                });
            }
        });
        drop(sender);
        let total: u32 = counts.iter().sum();
        println!(
            "batches of 100 on 8 connections: {:.0} events/s",
            f64::from(total) / began.elapsed().as_secs_f64()
        );
    }

    /// Redis is killed, 100,000 events are published meanwhile, and it comes back.
    fn outage(&mut self) {
        const EVENTS: usize = 100_000;
        const CONNECTIONS: usize = 4;
        // The reader of what is drained, on a run of its own.
        let mut publisher = Publisher::connect(self.port);
        publisher.publish("o0", &self.batch(100));
        let before = self.memory();
        if let Some((redis, _)) = &mut self.redis {
            redis.kill().unwrap();
            redis.wait().unwrap();
        }
        let began = Instant::now();
        publisher.publish("o0", &self.batch(1));
        let first = began.elapsed();
        let degraded = self.until_mode("degraded", began);
        let began = Instant::now();
        let this = &*self;
        let slowest = std::thread::scope(|scope| {
            let load = |n| {
                move || {
                    let (mut publisher, body) = (Publisher::connect(this.port), this.batch(100));
                    let mut slowest = Duration::ZERO;
                    for _ in 0..EVENTS / CONNECTIONS / 100 {
                        let began = Instant::now();
                        publisher.publish(&format!("o{n}"), &body);
                        slowest = slowest.max(began.elapsed());
                    }
                    slowest
                }
            };
            let loads: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(load(n))).collect();
            loads.into_iter().map(|load| load.join().unwrap()).max().unwrap()
        });
        let taken = EVENTS as f64 / began.elapsed().as_secs_f64();
        let during = self.memory();
        let ready = publisher.request("GET", "/health/ready", "");
        let waiting = number(&ready, "\"events\":");
        if let Some((redis, port)) = &mut self.redis {
            *redis = start_redis(port, self.dir.path());
        }
        let back = Instant::now();
        let recovering = self.until_mode("recovering", back);
        let began = Instant::now();
        // Others are served meanwhile; how long does one of their publishes take?
        let mut live = Duration::ZERO;
        while !self.mode_is("normal") {
            let began = Instant::now();
            publisher.publish("live", &self.batch(1));
            live = live.max(began.elapsed());
        }
        let drained = began.elapsed();
        println!(
            "Redis killed: first publish after it answered in {:.0} ms, degraded after {:.0} ms; {taken:.0} events/s \
             spooled in batches of 100 on 4 connections, slowest publish {:.0} ms; with {waiting} events waiting \
             the hub went from {before:.0} to {during:.0} MB",
            first.as_secs_f64() * 1e3,
            degraded.as_secs_f64() * 1e3,
            slowest.as_secs_f64() * 1e3,
        );
        println!(
            "Redis back: recovering after {:.0} ms, normal {:.0} ms later: {:.0} events/s drained; the slowest \
             publish to another run meanwhile took {:.0} ms",
            recovering.as_secs_f64() * 1e3,
            drained.as_secs_f64() * 1e3,
            waiting as f64 / drained.as_secs_f64(),
            live.as_secs_f64() * 1e3,
        );
    }

    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.hub.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// The same load for a minute without, then with a reader that reads nothing of it.
    fn stalled_reader(&self) {
        let load = |run: &str| {
            let mut publisher = Publisher::connect(self.port);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(60) {
                publisher.publish(run, &self.batch(100));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        load("s");
        let before = self.memory();
        let mut stalled = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stalled, "GET /runs/s/events/stream?from=live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        load("s");
        let after = self.memory();
        println!(
            "a reader that reads nothing for a minute, 2,000 events/s: the hub went from {before:.1} to {after:.1} MB"
        );
    }
}

/// The number right behind a name.
fn number(text: &str, name: &str) -> u64 {
    let rest = text.split_once(name).unwrap_or_else(|| panic!("no {name} in {text}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

struct Reader(BufReader<TcpStream>);

impl Reader {
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next event's data line.
    fn event(&mut self) -> String {
        loop {
            let line = self.line();
            if line.starts_with("data: {\"id\"") {
                return line;
            }
        }
    }
}

struct Publisher(BufReader<TcpStream>);

impl Publisher {
    fn connect(port: u16) -> Self {
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.set_nodelay(true).unwrap();
        Self(BufReader::new(connection))
    }

    fn publish(&mut self, run: &str, body: &str) {
        self.request("POST", &format!("/runs/{run}/events"), body);
    }

    fn request(&mut self, method: &str, path: &str, body: &str) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(first.starts_with("http/1.1 2"), "{first}: {body}");
        body
    }
}
