//! Subscribers that listen while events are published: scenarios a, b and c, and what the others share with them.

use crate::measured::Measured;
use crate::processes::Cpu;
use crate::publishers::{Load, Pace, Sent};
use crate::setup::Setup;
use crate::subscribers::{Follow, Subscribers};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub struct Live {
    pub subscribers: usize,
    pub runs: usize,
    pub connections: usize,
    pub batch: u32,
    pub pace: Pace,
    pub secs: f64,
}

pub fn measure(setup: &Setup, live: &Live) -> Result<Measured, String> {
    let runs = Setup::runs(live.runs);
    let subscribers = Subscribers::connect(Follow::new(&setup.target, &runs, live.subscribers))?;
    settle(setup);
    let load = Load {
        target: setup.target.clone(),
        runs,
        connections: live.connections,
        batch: live.batch,
        pace: live.pace,
        secs: live.secs,
        each: None,
    };
    let done = publish(setup, subscribers, &load)?;
    let mut measured = done.measured;
    measured.add("server_mb", setup.processes.memory() / 1024.0);
    Ok(measured)
}

/// Waits until the target is done with what came before: who is connected may not be set up there yet, and their
/// first events would tell of that. How long it took; where the processes are not known, a moment has to do.
pub fn settle(setup: &Setup) -> Duration {
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    loop {
        let before = setup.processes.cpu();
        std::thread::sleep(Duration::from_millis(200));
        let used = setup.processes.cpu().since(before);
        let is_calm = used.server + used.redis < 0.025;
        if is_calm || began.elapsed() > Duration::from_secs(20) {
            return began.elapsed();
        }
    }
}

pub struct Done {
    pub measured: Measured,
    pub sent: Sent,
    pub cpu: Cpu,
}

/// Publishes, and waits until all has come or is lost.
pub fn publish(setup: &Setup, subscribers: Subscribers, load: &Load) -> Result<Done, String> {
    let before = setup.processes.cpu();
    let sent = load.publish(&subscribers.counters, subscribers.readers())?;
    subscribers.wait_for(&sent.published);
    let cpu = setup.processes.cpu().since(before);
    let last = subscribers.counters.last.load(Relaxed);
    let (heard, verdict) = subscribers.stop(&sent.published)?;
    let mut measured = Measured::default();
    let secs = last.saturating_sub(sent.began) as f64 / 1e9;
    measured.add("deliveries_per_s", verdict.deliveries as f64 / secs.max(1e-9));
    measured.add_spread("", &heard.latency);
    add_cpu(&mut measured, setup, cpu, verdict.deliveries);
    measured.add_verdict(&verdict);
    measured.add_sent(&sent);
    Ok(Done { measured, sent, cpu })
}

/// CPU seconds a million deliveries, of what is known.
pub fn add_cpu(measured: &mut Measured, setup: &Setup, cpu: Cpu, deliveries: u64) {
    let per_million = |secs: f64| secs * 1e6 / deliveries.max(1) as f64;
    if setup.processes.has_server() {
        measured.add("server_cpu_s_per_m", per_million(cpu.server));
    }
    if setup.processes.has_redis() {
        measured.add("redis_cpu_s_per_m", per_million(cpu.redis));
    }
    measured.add("load_cpu_s_per_m", per_million(cpu.load));
}
