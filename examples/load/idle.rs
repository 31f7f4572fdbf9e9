//! Scenario d: very many subscribers that wait, and what each costs; then one event a run that all must get.

use crate::live::{publish, settle};
use crate::measured::Measured;
use crate::publishers::{Load, Pace};
use crate::setup::Setup;
use crate::subscribers::{Follow, Subscribers};
use std::time::Duration;

const RUNS: usize = 100;

pub fn measure(setup: &Setup, subscribers: usize) -> Result<Measured, String> {
    let runs = Setup::runs(RUNS);
    let empty = setup.processes.memory();
    let following = Subscribers::connect(Follow::new(&setup.target, &runs, subscribers))?;
    let connecting = following.connecting.as_secs_f64();
    settle(setup);
    let cpu = setup.processes.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let idle = setup.processes.cpu().since(cpu);
    let full = setup.processes.memory();
    let load = Load {
        target: setup.target.clone(),
        runs,
        connections: 4,
        batch: 1,
        pace: Pace::Undelivered(u64::from(u32::MAX)),
        secs: 30.0,
        each: Some(1),
    };
    let mut measured = publish(setup, following, &load)?.measured;
    measured.add("connects_per_s", subscribers as f64 / connecting);
    if setup.processes.are_known() {
        measured.add("server_mb", full / 1024.0);
        measured.add("kb_per_subscriber", (full - empty) / subscribers as f64);
        measured.add("idle_cpu_percent", (idle.server + idle.redis) / 2.0 * 100.0);
    }
    Ok(measured)
}
