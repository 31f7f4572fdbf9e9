//! What processes cost: CPU time and memory, as /proc tells.

use std::fs::read_to_string;

/// Those of a target; a Redis server among them counts for itself.
#[derive(Default)]
pub struct Processes {
    server: Vec<u32>,
    redis: Vec<u32>,
}

/// CPU seconds up to now.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub server: f64,
    pub redis: f64,
    pub load: f64,
}

impl Processes {
    pub fn add(&mut self, pid: u32) -> Result<(), String> {
        let name = read_to_string(format!("/proc/{pid}/comm"))
            .map_err(|e| format!("process {pid}: {e}; --pids names the target's processes"))?;
        let is_redis = name.starts_with("redis-server") || name.starts_with("valkey-server");
        let group = if is_redis { &mut self.redis } else { &mut self.server };
        group.push(pid);
        Ok(())
    }

    pub fn cpu(&self) -> Cpu {
        let sum = |pids: &[u32]| pids.iter().map(|pid| cpu(&pid.to_string())).sum();
        Cpu { server: sum(&self.server), redis: sum(&self.redis), load: cpu("self") }
    }

    /// Resident memory of the server in kB; where Redis itself is the server, of Redis.
    pub fn memory(&self) -> f64 {
        let pids = if self.server.is_empty() { &self.redis } else { &self.server };
        pids.iter().map(|pid| memory(*pid)).sum()
    }

    pub fn has_server(&self) -> bool {
        !self.server.is_empty()
    }

    pub fn has_redis(&self) -> bool {
        !self.redis.is_empty()
    }

    pub fn are_known(&self) -> bool {
        self.has_server() || self.has_redis()
    }
}

impl Cpu {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            server: self.server - earlier.server,
            redis: self.redis - earlier.redis,
            load: self.load - earlier.load,
        }
    }
}

/// A process that has ended costs nothing more.
fn cpu(pid: &str) -> f64 {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, user and system time are the 12th and 13th word, in
    // hundredths of a second, as Linux gives them on every common architecture.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    words.filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn memory(pid: u32) -> f64 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0)
}
