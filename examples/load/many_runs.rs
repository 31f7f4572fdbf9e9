//! Scenario g: very many followed runs on one Redis, written to by others; beside it the same with 100 runs.

use crate::commands::Commands;
use crate::live::{publish, settle};
use crate::measured::Measured;
use crate::options::Options;
use crate::publishers::{Load, Pace};
use crate::setup::Setup;
use crate::subscribers::{Follow, Subscribers};

const FEW: usize = 100;
/// The most runs on one stream.
const A_STREAM: usize = 128;

pub fn measure(
    options: &Options,
    setup: Setup,
    runs: usize,
    secs: f64,
) -> Result<Measured, String> {
    let few = with(&setup, FEW, secs)?;
    // Where hubs are started here, each has its own life.
    drop(setup);
    let setup = Setup::start(options)?;
    let mut many = with(&setup, runs, secs)?;
    for name in ["redis_connections", "redis_cpu_us_per_event", "server_cpu_us_per_event", "p99_ms"]
    {
        if let Some(number) = few.get(name) {
            many.add(format!("{name}_of_{FEW}_runs"), number);
        }
    }
    Ok(many)
}

fn with(setup: &Setup, runs: usize, secs: f64) -> Result<Measured, String> {
    let redis = setup.redis.ok_or("this hub has no Redis")?;
    let mut target = setup.target.clone();
    target.xadd = Some(redis);
    let runs = Setup::runs(runs);
    // A connection each, if so many may be open here and at the hub, and else a stream for many runs.
    let (limit, _) = rlimit::Resource::NOFILE.get().map_err(|e| format!("open files: {e}"))?;
    let runs_each = if limit as usize > runs.len() + 500 { 1 } else { A_STREAM };
    let subscribers = runs.len().div_ceil(runs_each);
    let follow = Follow { runs_each, ..Follow::new(&target, &runs, subscribers) };
    let following = Subscribers::connect(follow)?;
    let settled = settle(setup);
    let connections = Commands::of(redis)?.connections()?;
    let pace = Pace::Rate(1000.0);
    let load = Load { target, runs, connections: 4, batch: 1, pace, secs, each: None };
    let done = publish(setup, following, &load)?;
    let mut measured = done.measured;
    let events = done.sent.events.max(1) as f64;
    measured.add("server_mb", setup.processes.memory() / 1024.0);
    measured.add("settled_after_s", settled.as_secs_f64());
    measured.add("runs_a_stream", runs_each as f64);
    measured.add("redis_connections", connections);
    measured.add("redis_cpu_us_per_event", done.cpu.redis * 1e6 / events);
    measured.add("server_cpu_us_per_event", done.cpu.server * 1e6 / events);
    Ok(measured)
}
