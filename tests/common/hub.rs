//! A hub of the test's own, in a process of its own.

use super::http::{Answer, Request};
use super::redis_server::RedisServer;
use super::sse::Stream;
use super::wait::until;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What hubs of a test share: the store, and the folder of their files.
pub struct Setup {
    pub redis: Option<RedisServer>,
    dir: TempDir,
    variables: Vec<(String, String)>,
    /// What the hub's command is given to, if not run by itself.
    wrapper: Vec<String>,
}

impl Setup {
    pub fn embedded() -> Self {
        let (dir, variables) = (tempfile::tempdir().unwrap(), Vec::new());
        let setup = Self { redis: None, dir, variables, wrapper: Vec::new() };
        // A busy disk can hold one sync up for seconds; tests of the time limit itself set their own.
        setup.set("PUBLISH__TIMEOUT", "20s")
    }

    pub fn redis() -> Self {
        Self::on(RedisServer::start())
    }

    pub fn on(redis: RedisServer) -> Self {
        Self { redis: Some(redis), ..Self::embedded() }
    }

    /// Sets a configuration variable, such as `PUBLISH__TIMEOUT`, for hubs started from now on.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.variables.push((format!("RUNHUB_{key}"), value.to_owned()));
        self
    }

    /// The folder of the hubs' files.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Lets hubs started from now on have a folder of their own.
    pub fn with_another_folder(self) -> Self {
        let folder = self.dir.path().join(format!("data-{}", self.variables.len()));
        self.set("DATA_DIR", folder.to_str().unwrap())
    }

    /// Lets hubs started from now on be run by another program, which must end up as the hub's process.
    pub fn run_by(self, wrapper: &[&str]) -> Self {
        Self { wrapper: wrapper.iter().map(|word| (*word).to_owned()).collect(), ..self }
    }

    /// Lets the hub's system calls fail or be late as `strace -e inject=` is told, on this file
    /// alone.
    pub fn with_bad_disk(self, injections: &[&str], file: &str) -> Self {
        let mut words = vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", file];
        for injection in injections {
            words.extend(["-e", injection]);
        }
        self.run_by(&words)
    }

    /// Gives a folder of the hub's files a disk of its own of so many KiB, which other processes cannot
    /// see.
    pub fn with_small_disk(self, folder: &str, kib: u32) -> Self {
        let path = self.data_dir().join(folder);
        std::fs::create_dir_all(&path).unwrap();
        let mount =
            format!("mount -t tmpfs -o size={kib}k none {} && exec \"$@\"", path.to_str().unwrap());
        self.run_by(&["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"])
    }

    /// Lets the hub have no more files open at once than so many.
    pub fn with_few_files(self, most: usize) -> Self {
        let limited = format!("ulimit -n {most} && exec \"$@\"");
        self.run_by(&["sh", "-c", &limited, "sh"])
    }

    /// Sets an environment variable of another name.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn redis_server(&self) -> &RedisServer {
        self.redis.as_ref().unwrap()
    }

    pub fn command(&self) -> Command {
        let hub = hub_executable();
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&hub),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&hub);
                command
            }
        };
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("RUNHUB_DATA_DIR", self.data_dir()).envs(self.variables.iter().cloned());
        if let Some(redis) = &self.redis {
            command.env("REDIS_URL", redis.url());
        }
        command
    }

    /// Starts a hub and waits until it is ready.
    pub fn hub(&self) -> Hub {
        let hub = self.hub_unready();
        until("the hub is ready", || (hub.get("/health/ready").status == 200).then_some(()));
        hub
    }

    /// Starts a hub on a port that an earlier one had, and waits until it is ready.
    pub fn hub_at(&self, port: u16) -> Hub {
        let hub = self.spawn(port);
        until("the hub is ready", || (hub.get("/health/ready").status == 200).then_some(()));
        hub
    }

    /// Starts a hub and waits until it listens.
    pub fn hub_unready(&self) -> Hub {
        self.spawn(0)
    }

    fn spawn(&self, port: u16) -> Hub {
        let mut command = self.command();
        command
            .args(["serve", "--bind", &format!("127.0.0.1:{port}")])
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) =
            (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let port = until("the hub says where it listens", || {
            assert!(child.try_wait().unwrap().is_none(), "the hub ended: {}", log.lock());
            let log = log.lock();
            let rest = log.split_once("listening on http://127.0.0.1:")?.1;
            rest.lines().next()?.parse().ok().filter(|_| rest.contains('\n'))
        });
        Hub { child: Some(child), port, log }
    }
}

/// The hub's own executable, which Cargo tells to tests; an example is none, and plays the hub itself.
fn hub_executable() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_runhub") {
        Some(path) => path.into(),
        None => std::env::current_exe().unwrap(),
    }
}

/// A running hub.
pub struct Hub {
    child: Option<Child>,
    pub port: u16,
    log: Arc<Mutex<String>>,
}

impl Hub {
    pub fn send(&self, request: Request) -> Answer {
        request.send(self.port)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(Request::new("GET", path))
    }

    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Request::new("POST", path).json(body))
    }

    /// Publishes and expects 201.
    #[track_caller]
    pub fn publish(&self, run: &str, body: &Value) -> Value {
        let answer = self.post(&format!("/runs/{run}/events"), body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// Publishes and expects `202 spooled`, with an `event_id` for each event.
    #[track_caller]
    pub fn publish_spooled(&self, run: &str, body: &Value) -> Value {
        let answer = self.post(&format!("/runs/{run}/events"), body.to_string());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let told = answer.json();
        assert_eq!((&told["status"], &told["run_id"]), (&json!("spooled"), &json!(run)), "{told}");
        let events = told["events"].as_array().unwrap();
        assert_eq!(told["count"], events.len());
        assert!(events.iter().all(|event| event["event_id"].is_string() && event["id"].is_null()));
        told
    }

    /// The mode that the hub says it is in.
    pub fn mode(&self) -> Value {
        let ready = self.get("/health/ready");
        assert_eq!(ready.status, 200, "a degraded hub still serves");
        ready.json()["mode"].clone()
    }

    pub fn until_mode(&self, wanted: &str) {
        until(&format!("the mode is {wanted}"), || (self.mode() == wanted).then_some(()));
    }

    /// Events that wait in the spool.
    pub fn spooled(&self) -> u64 {
        self.get("/health/ready").json()["spool"]["events"].as_u64().unwrap()
    }

    /// Publishes `count` events in one batch, numbered from `first` on in `data.n`.
    #[track_caller]
    pub fn publish_numbers(&self, run: &str, first: u64, count: u64) -> Value {
        let events: Vec<_> = (first..first + count)
            .map(|n| json!({ "type": "llm.stream", "data": { "n": n } }))
            .collect();
        self.publish(run, &Value::from(events))
    }

    pub fn follow(&self, path: &str) -> Stream {
        Stream::open(self.port, Request::new("GET", path))
    }

    pub fn follow_from(&self, path: &str, last_event_id: &str) -> Stream {
        Stream::open(self.port, Request::new("GET", path).header("last-event-id", last_event_id))
    }

    /// Every event of a run, by walking its history.
    pub fn history(&self, run: &str) -> Vec<Value> {
        let (mut events, mut from) = (Vec::new(), "-".to_owned());
        loop {
            let page = self.get(&format!("/runs/{run}/events?start_id={from}"));
            assert_eq!(page.status, 200, "{}", page.text());
            let mut page = page.json();
            events.append(page["events"].as_array_mut().unwrap());
            match page["next_id"].as_str() {
                Some(next) => from = next.to_owned(),
                None => return events,
            }
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// A path as the hub sees it, whatever is mounted where.
    pub fn path(&self, path: &std::path::Path) -> std::path::PathBuf {
        let root = format!("/proc/{}/root", self.pid());
        std::path::Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .args([signal, &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits for the process to end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let ended = self.wait_within(patience);
        ended.unwrap_or_else(|| panic!("the hub does not end: {}", self.log.lock()))
    }

    /// Waits for the process to end, which it may not do.
    pub fn wait_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        let child = self.child.as_mut().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a run expire, and waits until it has.
    pub fn expire(&self, run: &str) {
        let path = format!("/runs/{run}");
        let expiry = Request::new("PUT", &format!("{path}/expiry")).json(r#"{"seconds":1}"#);
        assert_eq!(self.send(expiry).status, 200);
        until("the run has expired", || (self.get(&path).status == 410).then_some(()));
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the hub's log:\n{}", self.log.lock());
        }
    }
}
