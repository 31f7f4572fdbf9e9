//! What Redis has done: commands that clients have sent, and connections.

use redis::{Client, Connection, RedisResult, cmd};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Redis counts a command of a script like one that a client has sent. These are the ones that the hub's scripts
/// run, and its connections hardly ever send.
const OF_SCRIPTS: [&str; 13] = [
    "del",
    "exists",
    "hget",
    "hmget",
    "hset",
    "pexpire",
    "pttl",
    "time",
    "xadd",
    "xinfo",
    "xrevrange",
    "zadd",
    "zrem",
];

pub struct Commands(Connection);

/// How often each command was run, by its name.
pub type Counts = BTreeMap<String, u64>;

impl Commands {
    pub fn of(redis: SocketAddr) -> Result<Self, String> {
        let connection = Client::open(format!("redis://{redis}/")).and_then(|c| c.get_connection());
        connection.map(Self).map_err(|e| format!("Redis at {redis}: {e}"))
    }

    fn info(&mut self, section: &str) -> Result<String, String> {
        let answer: RedisResult<String> = cmd("INFO").arg(section).query(&mut self.0);
        answer.map_err(|e| format!("INFO {section}: {e}"))
    }

    /// So far, the one that asks here left out.
    pub fn counts(&mut self) -> Result<Counts, String> {
        let lines = self.info("commandstats")?;
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        Ok(lines.lines().filter_map(count).filter(|(name, _)| name != "info").collect())
    }

    /// Connections but this one.
    pub fn connections(&mut self) -> Result<f64, String> {
        let lines = self.info("clients")?;
        let number = lines.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        let number = number.and_then(|number| number.trim().parse::<f64>().ok());
        Ok(number.ok_or("INFO clients names no connected_clients")? - 1.0)
    }
}

/// What was run between the two.
pub fn between(before: &Counts, after: &Counts) -> Counts {
    let new = |(name, calls): (&String, &u64)| {
        let more = calls - before.get(name).unwrap_or(&0);
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(new).collect()
}

/// Those sent by clients, subcommands (`client|unblock`) included.
pub fn of_clients(counts: &Counts) -> impl Iterator<Item = (&str, u64)> {
    let is_of_scripts = |name: &str| {
        let command = name.split('|').next().unwrap_or_default();
        OF_SCRIPTS.contains(&command)
    };
    let all = counts.iter().map(|(name, calls)| (name.as_str(), *calls));
    all.filter(move |(name, _)| !is_of_scripts(name))
}
