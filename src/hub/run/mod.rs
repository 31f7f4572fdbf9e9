//! The RunActor: reads one run's tail, once for all its subscribers.
//!
//! It encodes each batch once and shares it. Every batch carries the position right before it, so a
//! subscriber that missed one notices by itself and reads the store. Where the actor stands is kept in the
//! run's roster: a replacement goes on from there, and a batch that is broadcast twice is ignored by
//! whoever has it. Without subscribers the actor stops after a grace time.

mod gap;
mod pump;
mod ring;

pub use gap::{Gap, GapReason};

use super::Core;
use super::obituary::Obituary;
use super::registry::{At, Reached, Roster, SubscriberKey};
use super::subscriber::FromRun;
use super::supervisor::{Component, obituary_of};
use crate::event::{EncodedBatch, EventId, RunId};
use crate::telemetry::metrics;
use actix::prelude::*;
use ring::Ring;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The actor; see the module.
pub(super) struct RunActor {
    core: Weak<Core>,
    run: RunId,
    generation: u64,
    roster: Arc<Roster>,
    ring: Ring,
    grace: Duration,
    idle: Option<SpawnHandle>,
    obituary: Obituary,
}

/// Request: tell this subscriber, who has read up to `cursor`, where the run stands.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Attach {
    pub(super) key: SubscriberKey,
    pub(super) cursor: EventId,
}

/// Request: stop after the grace time, if nobody has come by then.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

/// Notice of the actor's own pump: the tail has moved.
#[derive(Message)]
#[rtype(result = "()")]
enum Moved {
    /// There are new events, behind a gap or not.
    Events { batch: Arc<EncodedBatch>, gap: Option<Gap>, at: At },
    /// The position is none of the run's; the tail begins anew. When another hub deleted the run, if that is why.
    Reset { deleted_at: Option<u64> },
}

impl RunActor {
    pub(super) const NAME: &'static str = "RunActor";

    /// Starts the actor on the run's thread.
    pub(super) fn start_for(
        core: &Arc<Core>,
        run: &RunId,
        generation: u64,
        roster: Arc<Roster>,
    ) -> Addr<Self> {
        let actor = Self {
            core: Arc::downgrade(core),
            run: run.clone(),
            generation,
            roster,
            ring: Ring::default(),
            grace: core.config.subscribe.idle_grace,
            idle: None,
            obituary: obituary_of(core, Component::Run(run.clone()), generation),
        };
        let arbiter = core.arbiters.handle(core.arbiters.number_of(run));
        Self::start_in_arbiter(&arbiter, |_| actor)
    }

    fn reached(&self) -> Reached {
        self.roster.lock().reached
    }
}

impl Actor for RunActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.obituary.begin();
        metrics::followed_runs(1.0);
        let Some(core) = self.core.upgrade() else { return ctx.stop() };
        let reached = self.reached();
        // A predecessor may have died between moving on and telling.
        self.roster.broadcast(&FromRun::Reached(reached.position));
        let pump = pump::Pump::new(&core, &self.run, Arc::clone(&self.roster), reached);
        ctx.spawn(pump.run(ctx.address()).into_actor(self));
        if self.roster.lock().subscribers.is_empty() {
            // Its last reader left while there was no actor to hear of it.
            ctx.notify(Retire);
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        metrics::followed_runs(-1.0);
        self.obituary.retract();
    }
}

impl Handler<Attach> for RunActor {
    type Result = ();

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        let reached = self.reached().position;
        // Until it has been told all, it cannot leave, and nobody else tells it anything.
        let roster = self.roster.lock();
        let Some(subscriber) = roster.subscribers.get(&attach.key) else { return };
        for batch in self.ring.since(attach.cursor) {
            subscriber.tell(&FromRun::Batch { batch: Arc::clone(batch), gap: None });
        }
        subscriber.tell(&FromRun::Reached(reached));
    }
}

impl Handler<Moved> for RunActor {
    type Result = ();

    fn handle(&mut self, moved: Moved, ctx: &mut Self::Context) {
        if self.roster.lock().generation != self.generation {
            // It was taken for stuck and was replaced.
            return ctx.stop();
        }
        match moved {
            Moved::Events { batch, gap, at } => {
                if gap.is_some() {
                    self.ring.clear();
                }
                self.ring.push(Arc::clone(&batch));
                self.roster.lock().reached = Reached { position: batch.last, at };
                self.roster.broadcast(&FromRun::Batch { batch, gap });
            }
            Moved::Reset { deleted_at } => {
                self.ring.clear();
                self.roster.lock().reached = Reached::default();
                self.roster.broadcast_reset(FromRun::Reset { deleted_at });
            }
        }
    }
}

impl Handler<Retire> for RunActor {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(self.grace, |actor, ctx| {
            actor.idle = None;
            let retired = actor
                .core
                .upgrade()
                .is_none_or(|core| core.registry.retire(&actor.run, actor.generation));
            if retired {
                ctx.stop();
            }
        }));
    }
}

#[cfg(test)]
impl Handler<crate::hub::tests::Crash> for RunActor {
    type Result = ();

    fn handle(&mut self, _: crate::hub::tests::Crash, _: &mut Self::Context) {
        panic!("a test crashes the run's actor");
    }
}

#[cfg(test)]
impl Handler<crate::hub::tests::Stall> for RunActor {
    type Result = ();

    fn handle(&mut self, stall: crate::hub::tests::Stall, _: &mut Self::Context) {
        stall.wait();
    }
}
