//! Scenario s: from the start of the process until `/health/ready` says 200, on an empty store.

use crate::measured::{Measured, Spread};
use crate::options::Options;
use crate::setup::{Setup, hub_executable};

const STARTS: usize = 5;

pub fn measure(options: &Options) -> Result<Measured, String> {
    let (mut took, mut memory) = (Spread::default(), 0.0);
    for _ in 0..STARTS {
        let setup = Setup::start(options)?;
        took.record(u64::try_from(setup.ready_after.as_nanos()).unwrap_or(u64::MAX));
        memory = setup.processes.memory();
    }
    let hub = hub_executable(options)?;
    let size = std::fs::metadata(&hub).map_err(|e| format!("{}: {e}", hub.display()))?.len();
    let mut measured = Measured::default();
    measured.add("start_ms", took.at(0.5));
    measured.add("slowest_start_ms", took.at(1.0));
    measured.add("server_mb", memory / 1024.0);
    measured.add("binary_mb", size as f64 / 1e6);
    Ok(measured)
}
