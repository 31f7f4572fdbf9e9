//! The SupervisorActor: starts the writers, replaces actors that died, and owns the mode.
//!
//! It keeps nothing that is needed after its own death: the mode and the writers' queues lie outside, so
//! its replacement, started from its obituary, goes on where it stopped.

use super::Core;
use super::mode::Mode;
use super::obituary::Obituary;
use super::restart::RestartBudget;
use super::writer::{Shard, WriterActor};
use crate::event::{RunId, Timestamp};
use crate::store::StoreError;
use crate::telemetry::metrics;
use actix::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often the store is asked to write and read back: while it is well, and while it is not.
const PROBE_WELL: Duration = Duration::from_secs(5);
const PROBE_ILL: Duration = Duration::from_millis(150);
/// How long the probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How often what has expired is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(20);

/// Who supervises.
#[derive(Default)]
pub(super) struct SupervisorSlot {
    pub(super) actor: Option<Addr<SupervisorActor>>,
    /// Rises with each actor.
    generation: u64,
}

/// The actor; see the module.
pub(super) struct SupervisorActor {
    core: Weak<Core>,
    generation: u64,
    deaths: HashMap<Component, RestartBudget>,
    /// The next probe, while none is under way.
    next_probe: Option<SpawnHandle>,
    obituary: Obituary,
}

/// A part that can die and be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Component {
    /// The writer of a shard.
    Writer(usize),
    /// The RunActor of a run.
    Run(RunId),
}

/// Notice: an actor died.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Died(pub(super) Component);

/// Notice: a call to the store failed, or did what it was asked.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StoreSeen(pub(super) Result<(), StoreError>);

impl SupervisorActor {
    /// Starts a supervisor of a hub in place of the one there is, and with it the writers that are not
    /// running.
    pub(super) fn start_for(core: &Arc<Core>) {
        let (weak, reborn) = (Arc::downgrade(core), Arc::downgrade(core));
        let mut slot = core.supervisor.lock();
        slot.generation += 1;
        let generation = slot.generation;
        let obituary = Obituary::new("SupervisorActor", move || {
            let Some(core) = reborn.upgrade().filter(|core| !core.is_closing()) else {
                return false;
            };
            // One that was stuck has a successor already.
            let current = core.supervisor.lock().generation == generation;
            if current {
                Self::start_for(&core);
            }
            current
        });
        let deaths = HashMap::new();
        let supervisor = Self { core: weak, generation, deaths, next_probe: None, obituary };
        let arbiter = core.arbiters.handle(core.arbiters.supervisors());
        slot.actor = Some(Self::start_in_arbiter(&arbiter, |_| supervisor));
        drop(slot);
        // Whoever died while nobody supervised was told of in vain, but is marked.
        for shard in &core.shards {
            shard.start_writer(core);
        }
        core.registry.replace_all(core);
    }

    fn probe(&mut self, ctx: &mut Context<Self>) {
        self.next_probe = None;
        let Some(core) = self.core.upgrade() else { return ctx.stop() };
        if core.supervisor.lock().generation != self.generation {
            // It was taken for stuck and was replaced.
            return ctx.stop();
        }
        let store = Arc::clone(&core.store);
        let asked = async move {
            let probed = tokio::time::timeout(PROBE_LIMIT, store.probe()).await;
            probed.unwrap_or_else(|_| {
                Err(StoreError::NoAnswer { reason: "the probe timed out".into() })
            })
        };
        let seen = asked.into_actor(self).map(|seen, actor, ctx| {
            let well = seen.is_ok();
            actor.see(seen);
            let Some(core) = actor.core.upgrade() else { return ctx.stop() };
            core.started.store(true, Ordering::Release);
            let well = well && core.mode.is(Mode::Normal);
            let pause = if well { PROBE_WELL } else { PROBE_ILL };
            actor.next_probe = Some(ctx.run_later(pause, Self::probe));
        });
        ctx.spawn(seen);
    }

    fn sweep(&self, ctx: &mut Context<Self>) {
        let Some(core) = self.core.upgrade() else { return };
        let store = Arc::clone(&core.store);
        let swept = async move { store.sweep().await }.into_actor(self).map(|swept, _, ctx| {
            if let Err(e) = swept {
                log::debug!("could not remove what has expired: {e}");
            }
            ctx.run_later(SWEEP_EVERY, |actor, ctx| actor.sweep(ctx));
        });
        ctx.spawn(swept);
    }

    fn see(&self, seen: Result<(), StoreError>) {
        let Some(core) = self.core.upgrade() else { return };
        let now = Timestamp::now().as_ms();
        match seen {
            Ok(()) => {
                metrics::store_up(true);
                let behind = core.shards.iter().any(Shard::is_behind);
                if core.mode.change(|mode| mode.answered(behind, now)) {
                    if behind {
                        log::info!("recovering: the store answers and gets what was spooled");
                    } else {
                        log::info!("normal: the store answers and has everything");
                    }
                    core.mode_changed();
                }
            }
            Err(error) => {
                if core.mode.change(|mode| mode.failed(&error, now)) {
                    metrics::store_up(false);
                    log::warn!("degraded: {error}; what is published waits in the spool");
                    core.mode_changed();
                }
            }
        }
    }

    fn replace(&self, component: &Component) {
        let Some(core) = self.core.upgrade() else { return };
        match component {
            Component::Writer(number) => {
                if let Some(shard) = core.shards.get(*number) {
                    shard.start_writer(&core);
                }
            }
            Component::Run(run) => core.registry.replace(&core, run),
        }
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.obituary.begin();
        self.probe(ctx);
        self.sweep(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.obituary.retract();
    }
}

impl Handler<Died> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Died(component): Died, ctx: &mut Self::Context) {
        let now = Instant::now();
        self.deaths.retain(|_, budget| budget.is_recent(now));
        let pause = self.deaths.entry(component.clone()).or_default().died(now);
        if pause.is_zero() {
            self.replace(&component);
        } else {
            log::warn!("{component:?} keeps dying; it is replaced in {pause:?}");
            ctx.run_later(pause, move |actor, _| actor.replace(&component));
        }
    }
}

impl Handler<StoreSeen> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, StoreSeen(seen): StoreSeen, ctx: &mut Self::Context) {
        self.see(seen);
        // The next probe was set for a store that is well; this one is to be seen ill, or healed, soon.
        if let Some(next) = self.next_probe.take() {
            ctx.cancel_future(next);
            self.next_probe = Some(ctx.run_later(PROBE_ILL, Self::probe));
        }
    }
}

impl Core {
    /// Tells the supervisor, if there is one right now.
    pub(super) fn tell_supervisor<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        if let Some(supervisor) = &self.supervisor.lock().actor {
            supervisor.do_send(message);
        }
    }

    /// Lets everybody act on the mode.
    fn mode_changed(&self) {
        metrics::mode(self.mode.report().mode.as_str());
        let degraded = self.mode.is(Mode::Degraded);
        for shard in &self.shards {
            if degraded {
                // Here rather than in the writer, which may be waiting for the store.
                shard.spill_all();
            }
            shard.wake();
        }
        self.registry.mode_changed();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The shard that a run is written by.
    pub(super) fn writer(&self, run: &RunId) -> &super::writer::Shard {
        &self.shards[super::arbiters::shard_of(run, self.shards.len())]
    }
}

/// The obituary of a component's actor of this generation: marks it dead first, so that its death is
/// known even if no supervisor is there to hear of it.
pub(super) fn obituary_of(core: &Arc<Core>, component: Component, generation: u64) -> Obituary {
    let core = Arc::downgrade(core);
    let name = match component {
        Component::Writer(_) => WriterActor::NAME,
        Component::Run(_) => super::run::RunActor::NAME,
    };
    Obituary::new(name, move || {
        let Some(core) = core.upgrade().filter(|core| !core.is_closing()) else { return false };
        // One that was stuck has a successor already.
        let current = match &component {
            Component::Writer(number) => {
                core.shards.get(*number).is_some_and(|shard| shard.writer_died(generation))
            }
            Component::Run(run) => core.registry.died(run, generation),
        };
        if current {
            core.tell_supervisor(Died(component));
        }
        current
    })
}

#[cfg(test)]
impl Handler<super::tests::Crash> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: super::tests::Crash, _: &mut Self::Context) {
        panic!("a test crashes the supervisor");
    }
}

#[cfg(test)]
impl Handler<super::tests::Stall> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, stall: super::tests::Stall, _: &mut Self::Context) {
        stall.wait();
    }
}
