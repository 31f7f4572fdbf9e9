//! A Redis server of the test's own: a process on a free port, with its files in a folder of its own.

use super::wait::until;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct RedisServer {
    child: Option<Child>,
    pub port: u16,
    dir: TempDir,
    options: Vec<String>,
}

/// A port nobody listens on now. Another process may take it meanwhile: whoever starts a server on it
/// tries again then. It is none of those that the system gives to clients: one that dials again and again
/// where its server is away could get that very port for its own end, and would then talk to itself.
pub fn free_port() -> u16 {
    super::until("a port is free", || {
        let port = rand::random_range(10_000..30_000);
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

impl RedisServer {
    /// Starts a server that writes every change to disk before it answers.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { child: None, port: 0, dir, options };
        for _ in 0..20 {
            server.port = free_port();
            server.spawn();
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed? tests/run installs it");
    }

    fn spawn(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(&self.options)
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server can be started; tests/run installs it");
        self.child = Some(child);
    }

    fn comes_up(&mut self) -> bool {
        let deadline = std::time::Instant::now() + super::wait::PATIENCE;
        while std::time::Instant::now() < deadline {
            if self.child.as_mut().is_some_and(|c| c.try_wait().unwrap().is_some()) {
                return false;
            }
            if let Ok(mut connection) = self.client().get_connection()
                && match redis::cmd("PING").query::<String>(&mut connection) {
                    Ok(_) => true,
                    Err(e) => e.code() == Some("NOAUTH"),
                }
            {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        false
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn connection(&self) -> redis::Connection {
        self.client().get_connection().unwrap()
    }

    /// Runs a command.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connection()).unwrap()
    }

    /// How often it was asked for a command, by whomever.
    pub fn calls(&self, command: &str) -> u64 {
        let all: String = self.command(&["INFO", "commandstats"]);
        let line = format!("cmdstat_{command}:calls=");
        let count = all.split_once(&line).map(|(_, rest)| rest.split_once(',').unwrap().0);
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// `XADD key *` with these fields, as any foreign program would.
    pub fn xadd(&self, key: &str, fields: &[(&str, &[u8])]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(key).arg("*");
        for (name, value) in fields {
            command.arg(*name).arg(*value);
        }
        command.query(&mut self.connection()).unwrap()
    }

    /// Puts an older stream in the place of a run's: it holds one event, at `1000-0`.
    pub fn roll_back(&self, run: &str) {
        let key = format!("run:{run}:events");
        let () = self.command(&["DEL", &key]);
        let words = ["event_category", "a", "event_action", "b", "sequence", "1"];
        let _: String = self.command(&[&["XADD", key.as_str(), "1000-0"], &words[..]].concat());
    }

    /// Waits until it follows its primary.
    pub fn until_it_follows(&self) {
        until("the replica follows", || {
            let info: String = self.command(&["INFO", "replication"]);
            info.contains("master_link_status:up").then_some(())
        });
    }

    /// Whether it says that it is a replica.
    pub fn is_replica(&self) -> bool {
        self.try_command(&["ROLE"]).is_ok_and(|role| format!("{role:?}").contains("slave"))
    }

    /// Cuts off replicas, and lets nobody in again; other clients that are connected stay.
    pub fn lose_replicas(&self) {
        let mut connected = self.connection();
        for words in ["CONFIG SET requirepass nobody-knows", "CLIENT KILL TYPE REPLICA"] {
            let mut command = redis::Cmd::new();
            words.split(' ').for_each(|word| {
                command.arg(word);
            });
            let _: redis::Value = command.query(&mut connected).unwrap();
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops the process without ending it.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the server again on its port and files, and does not wait until it serves.
    pub fn start_again_unready(&mut self) {
        self.kill();
        self.spawn();
    }

    /// The folder of its files, and where it works.
    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Runs a command that may be refused.
    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.client().get_connection()?)
    }

    /// Starts the server again on its port and files.
    pub fn start_again(&mut self) {
        until("redis-server starts again", || {
            self.kill();
            self.spawn();
            self.comes_up().then_some(())
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
