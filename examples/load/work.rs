//! Scenario w: what the hub asks of Redis to take 1,000 events in ten publishes, and to give them to a reader.

use crate::commands::{Commands, between, of_clients};
use crate::live::{publish, settle};
use crate::measured::Measured;
use crate::publishers::{Load, Pace};
use crate::setup::Setup;
use crate::subscribers::{Follow, Subscribers};

pub fn measure(setup: &Setup) -> Result<Measured, String> {
    let mut commands = Commands::of(setup.redis.ok_or("this hub has no Redis")?)?;
    let runs = Setup::runs(1);
    let following = Subscribers::connect(Follow::new(&setup.target, &runs, 1))?;
    settle(setup);
    let before = commands.counts()?;
    let load = Load {
        target: setup.target.clone(),
        runs,
        connections: 1,
        batch: 100,
        pace: Pace::Undelivered(1000),
        secs: 30.0,
        each: Some(1000),
    };
    let mut measured = publish(setup, following, &load)?.measured;
    let counts = between(&before, &commands.counts()?);
    let all = counts.values().sum::<u64>() as f64;
    let clients = of_clients(&counts).map(|(_, calls)| calls as f64).sum::<f64>();
    measured.add("commands", clients);
    measured.add("commands_in_scripts", all - clients);
    for (name, calls) in of_clients(&counts) {
        measured.add(format!("commands_{name}"), calls as f64);
    }
    Ok(measured)
}
