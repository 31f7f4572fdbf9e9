//! A Redis server with a replica, and sentinels that make the replica the primary when the server is gone.

use super::redis_server::{RedisServer, free_port};
use super::tls::Authority;
use super::wait::until;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What the servers are called among sentinels.
const NAME: &str = "main";
/// What sentinels ask of their clients.
const PASSWORD: &str = "s3ntinel";

pub struct Sentinels {
    running: Vec<(u16, Child)>,
    dir: TempDir,
}

impl Sentinels {
    /// So many, most of whom must agree; all of them know of each other and of the replicas.
    pub fn over(primary: &RedisServer, count: usize) -> Self {
        let mut sentinels = Self { running: Vec::new(), dir: tempfile::tempdir().unwrap() };
        for _ in 0..count {
            sentinels.start(primary.port, count / 2 + 1, "");
        }
        for (port, _) in &sentinels.running {
            until("the sentinels know each other, and the replicas", || {
                let others: Vec<redis::Value> = ask(*port, "SENTINELS")?;
                let replicas: Vec<redis::Value> = ask(*port, "REPLICAS")?;
                let known: String = primary.command(&["INFO", "replication"]);
                let wanted: usize =
                    known.split_once("connected_slaves:")?.1.lines().next()?.parse().ok()?;
                (others.len() == count - 1 && replicas.len() == wanted).then_some(())
            });
        }
        sentinels
    }

    /// One that listens for clients with TLS, too, and speaks so with the primary; and the hub's URL for it.
    pub fn with_tls(primary: u16, authority: &Authority) -> (Self, String) {
        let mut sentinels = Self { running: Vec::new(), dir: tempfile::tempdir().unwrap() };
        let port = free_port();
        let mut options = authority.options(port);
        options.push(("tls-replication", "yes".to_owned()));
        let lines: String =
            options.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        sentinels.start(primary, 1, &lines);
        let host = format!("127.0.0.1:{port}");
        (sentinels, format!("rediss-sentinel://{host}/{NAME}?sentinel_password={PASSWORD}"))
    }

    fn start(&mut self, primary: u16, quorum: usize, more: &str) {
        let (port, child) = until("a sentinel starts", || {
            let port = free_port();
            let file = self.dir.path().join(format!("{port}.conf"));
            let settings = format!(
                "{more}port {port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\nsentinel sentinel-pass {PASSWORD}\n\
                 sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n\
                 sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 4000\n"
            );
            std::fs::write(&file, settings).unwrap();
            let mut child = Command::new("redis-server")
                .arg(&file)
                .arg("--sentinel")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server can be started; tests/run installs it");
            until("it answers, or its port was taken", || {
                if child.try_wait().unwrap().is_some() {
                    return Some(None);
                }
                ask::<redis::Value>(port, "MASTER").map(|_| Some(()))
            })?;
            Some((port, child))
        });
        self.running.push((port, child));
    }

    /// Where one of them says the primary is.
    pub fn primary(&self) -> Option<u16> {
        let (_, port): (String, u16) = ask(self.running[0].0, "GET-MASTER-ADDR-BY-NAME")?;
        Some(port)
    }

    /// The hub's URL for these, and before them those.
    pub fn url_after(&self, others: &[&Self]) -> String {
        let all = others.iter().copied().chain([self]).flat_map(|s| &s.running);
        let hosts: Vec<String> = all.map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://{}/{NAME}?sentinel_password={PASSWORD}", hosts.join(","))
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // It may have ended by itself.
            drop(child.kill());
            child.wait().unwrap();
        }
    }
}

/// Asks a sentinel about the servers.
fn ask<T: redis::FromRedisValue>(port: u16, what: &str) -> Option<T> {
    let client = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{port}/")).unwrap();
    let mut connection = client.get_connection().ok()?;
    redis::cmd("SENTINEL").arg(what).arg(NAME).query(&mut connection).ok()
}
