//! The WriterActor: appends what is published to the runs of its shard.
//!
//! It flushes at once when it is idle; what is published while a call to the store is under way gathers
//! and goes together with the next one, bounded by count and bytes. There is one call under way a shard,
//! so the order of a run's events is the order they were published in. What waits and what is under way
//! lie in the [`queue`], outside the actor: its replacement sends the same batch under the same name, and
//! the store tells whether it had it already.

mod queue;
mod readback;

use super::Core;
use super::obituary::Obituary;
use super::supervisor::{Component, StoreSeen, obituary_of};
use crate::config::PublishConfig;
use crate::event::NewEvent;
use crate::event::RunId;
use crate::store::{Appended, LogStore, PublishOutcome, StoreError};
use crate::telemetry::metrics;
use actix::prelude::*;
use parking_lot::Mutex;
use queue::{Flight, Queue};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) use queue::QueueFull;

/// What a publisher who waits is told.
pub(super) type Written = Result<PublishOutcome, StoreError>;

/// A shard of the runs: its queue, and the actor that empties it.
pub(super) struct Shard {
    number: usize,
    queue: Arc<Queue>,
    writer: Mutex<Slot>,
}

/// Who empties the queue.
#[derive(Default)]
struct Slot {
    actor: Option<Addr<WriterActor>>,
    /// Rises with each actor.
    generation: u64,
}

/// `count` shards that share the room there is.
pub(super) fn shards(count: usize, config: &PublishConfig) -> Vec<Shard> {
    let room = config.queue.as_usize() / count.max(1);
    let shard =
        |number| Shard { number, queue: Arc::new(Queue::new(room)), writer: Mutex::default() };
    (0..count.max(1)).map(shard).collect()
}

impl Shard {
    /// Takes a publish in, whose outcome is told to the receiver. Gives it back in full if there is no
    /// room.
    pub(super) fn publish(
        &self,
        run: &RunId,
        events: Arc<[NewEvent]>,
    ) -> Result<oneshot::Receiver<Written>, QueueFull> {
        let (reply, outcome) = oneshot::channel();
        if self.queue.push(run, events, Some(reply))? {
            self.wake();
        }
        Ok(outcome)
    }

    /// Takes a publish in whose outcome nobody waits for.
    pub(super) fn accept(&self, run: &RunId, events: Arc<[NewEvent]>) -> Result<(), QueueFull> {
        if self.queue.push(run, events, None)? {
            self.wake();
        }
        Ok(())
    }

    /// Publishes that wait or are under way.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer.lock().actor {
            writer.do_send(Wake);
        }
    }

    /// Starts a writer, unless there is one.
    pub(super) fn start_writer(&self, core: &Arc<Core>) {
        let mut slot = self.writer.lock();
        if slot.actor.is_some() {
            return;
        }
        slot.generation += 1;
        let actor = WriterActor {
            core: Arc::downgrade(core),
            store: Arc::clone(&core.store),
            queue: Arc::clone(&self.queue),
            busy: false,
            pause: FIRST_PAUSE,
            obituary: obituary_of(core, Component::Writer(self.number), slot.generation),
        };
        let arbiter = core.arbiters.handle(self.number);
        slot.actor = Some(WriterActor::start_in_arbiter(&arbiter, |_| actor));
    }

    /// The writer of this generation died.
    pub(super) fn writer_died(&self, generation: u64) {
        let mut slot = self.writer.lock();
        if slot.generation == generation {
            slot.actor = None;
        }
    }

    #[cfg(test)]
    pub(super) fn crash_writer(&self) {
        if let Some(writer) = &self.writer.lock().actor {
            writer.do_send(crate::hub::tests::Crash);
        }
    }
}

/// Pauses between attempts to write what the store did not take.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The actor; see the module.
pub(super) struct WriterActor {
    core: Weak<Core>,
    store: Arc<dyn LogStore>,
    queue: Arc<Queue>,
    busy: bool,
    pause: Duration,
    obituary: Obituary,
}

/// Request: there is something in the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

impl WriterActor {
    pub(super) const NAME: &'static str = "WriterActor";

    /// Sends the next batch, unless one is under way.
    fn fly(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(flight) = self.queue.next_flight() else { return };
        self.busy = true;
        let store = Arc::clone(&self.store);
        let call = async move {
            let began = Instant::now();
            let results = store.append(flight.appends()).await;
            let results = tell_what_was_applied(&*store, flight.appends(), results).await;
            metrics::appended(flight.events(), began.elapsed());
            (flight, results)
        };
        ctx.spawn(call.into_actor(self).map(|(flight, results), actor, ctx| {
            actor.busy = false;
            actor.land(&flight, results, ctx);
        }));
    }

    fn land(
        &mut self,
        flight: &Flight,
        results: Vec<Result<Appended, StoreError>>,
        ctx: &mut Context<Self>,
    ) {
        let failure =
            results.iter().find_map(|r| r.as_ref().err().filter(|e| e.is_transient()).cloned());
        self.queue.settle(flight, results);
        let Some(error) = failure else {
            self.pause = FIRST_PAUSE;
            self.fly(ctx);
            return;
        };
        metrics::store_failed("append");
        if let Some(core) = self.core.upgrade() {
            core.tell_supervisor(StoreSeen(Err(error)));
        }
        ctx.run_later(self.pause, WriterActor::fly);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where a batch turns out to have been applied by an attempt that was not answered, its events' places
/// are read back, so that its publishers get the answer they wait for.
async fn tell_what_was_applied(
    store: &dyn LogStore,
    appends: &[crate::store::RunAppend],
    results: Vec<Result<Appended, StoreError>>,
) -> Vec<Result<Appended, StoreError>> {
    let mut told = Vec::with_capacity(results.len());
    for (append, result) in appends.iter().zip(results) {
        told.push(match result {
            Ok(Appended::Already) => {
                let places = readback::places(store, append).await;
                places.map(|places| places.map_or(Appended::Already, Appended::Now))
            }
            other => other,
        });
    }
    told
}

impl Actor for WriterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.fly(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.obituary.retract();
    }
}

impl Handler<Wake> for WriterActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.fly(ctx);
    }
}

#[cfg(test)]
impl Handler<crate::hub::tests::Crash> for WriterActor {
    type Result = ();

    fn handle(&mut self, _: crate::hub::tests::Crash, _: &mut Self::Context) {
        panic!("a test crashes the writer");
    }
}
