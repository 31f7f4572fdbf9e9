//! Notices threads of actors that are stuck: a handler that does not come back holds up every actor beside
//! it, and none of them can tell.
//!
//! A plain thread asks each arbiter for a sign of life and counts how long it takes. One that gives none is
//! replaced, with all the actors on it; what they were about lies outside them, so nothing is lost. Those
//! that were stuck find out, if they ever wake, that they are no longer who they were.

use super::Core;
use super::restart::RestartBudget;
use super::supervisor::SupervisorActor;
use actix::{ArbiterHandle, System};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A thread is stuck that gave no sign of life for this long.
const STUCK_AFTER: Duration = Duration::from_millis(600);

/// What is known of one thread.
struct Pulse {
    /// The sign of life that was asked for, and when.
    asked: Option<(Arc<AtomicBool>, Instant)>,
    budget: RestartBudget,
    /// It is not replaced again before this.
    patient_until: Instant,
}

/// Starts the watchdog of a hub; it ends with the hub.
pub(super) fn start(core: &Arc<Core>) -> std::io::Result<()> {
    let (core, count) = (Arc::downgrade(core), core.arbiters.supervisors() + 1);
    let system = System::current().arbiter().clone();
    let now = Instant::now();
    let pulse = || Pulse { asked: None, budget: RestartBudget::default(), patient_until: now };
    let mut pulses: Vec<Pulse> = (0..count).map(|_| pulse()).collect();
    let watch = move || while look(&core, &mut pulses, &system) {};
    std::thread::Builder::new().name("runhub-watchdog".to_owned()).spawn(watch).map(drop)
}

/// Looks at every thread once. False when there is no hub any more.
fn look(core: &Weak<Core>, pulses: &mut [Pulse], system: &ArbiterHandle) -> bool {
    let before = Instant::now();
    std::thread::sleep(LOOK_EVERY);
    let Some(core) = core.upgrade() else { return false };
    let now = Instant::now();
    // The whole process was held up, then, and nobody is to blame.
    let late = now.saturating_duration_since(before) > LOOK_EVERY * 3;
    for (number, pulse) in pulses.iter_mut().enumerate() {
        let alive = pulse.asked.as_ref().is_none_or(|(sign, _)| sign.load(Ordering::Acquire));
        if alive || late {
            let sign = Arc::new(AtomicBool::new(false));
            pulse.asked = Some((Arc::clone(&sign), now));
            core.arbiters.handle(number).spawn_fn(move || sign.store(true, Ordering::Release));
        } else if pulse.asked.as_ref().is_some_and(|(_, asked)| now - *asked >= STUCK_AFTER)
            && now >= pulse.patient_until
            && !core.is_closing()
        {
            pulse.asked = None;
            pulse.patient_until = now + pulse.budget.died(now);
            log::error!("a thread of actors is stuck; the actors on it are replaced");
            crate::telemetry::metrics::stuck();
            let core = Arc::clone(&core);
            // Threads of actors can be started within their system alone.
            system.spawn_fn(move || replace(&core, number));
        }
    }
    true
}

fn replace(core: &Arc<Core>, number: usize) {
    core.arbiters.replace(number);
    if number == core.arbiters.supervisors() {
        SupervisorActor::start_for(core);
    } else {
        // Not by way of the supervisor, which may be stuck as well.
        for shard in core.shards.iter().filter(|shard| shard.number() == number) {
            shard.writer_is_stuck();
            shard.start_writer(core);
        }
        core.registry.replace_stuck(core, number);
    }
}
