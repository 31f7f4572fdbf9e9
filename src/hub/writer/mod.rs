//! The WriterActor: appends what is published to the runs of its shard.
//!
//! It flushes at once when it is idle; what is published while a call to the store is under way gathers
//! and goes together with the next one, bounded by count and bytes. There is one call under way a shard,
//! so the order of a run's events is the order they were published in. What waits and what is under way
//! lie in the [`queue`], outside the actor: its replacement sends the same publishes under the same
//! numbers, and the store tells which it had already. What the store does not take in time goes to the
//! spool, and from there, in turns with what is live, to the store.

mod backlog;
mod drain;
mod forgotten;
pub(super) mod measured;
mod queue;
mod readback;

use super::Core;
use super::first;
use super::left_out;
use super::mode::Mode;
use super::obituary::Obituary;
use super::search;
use super::supervisor::{Component, StoreSeen, obituary_of};
use crate::config::PublishConfig;
use crate::event::{NewEvent, RunId};
use crate::spool::{Spool, SpoolError};
use crate::store::{LogStore, Placed, PublishOutcome, StoreError};
use crate::telemetry::metrics;
use actix::prelude::*;
use forgotten::Forgotten;
use parking_lot::Mutex;
use queue::{Flight, Queue, Work};
use std::iter;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) use queue::NotTaken;

/// What a publisher who waits is told.
#[derive(Debug)]
pub(super) enum Told {
    /// The store has it.
    Stored(Vec<Placed>),
    /// Nothing was stored: the event at this index has an `event_id` that stands for other content.
    KeyReused {
        /// Index within the publish.
        index: usize,
    },
    /// It is on the hub's disk.
    Spooled,
    /// It is nowhere: the store does not take it and the spool cannot.
    NoRoom(SpoolError),
    /// It may be in the store or not.
    Late,
    /// The store cannot serve the run.
    Broken(StoreError),
}

impl Told {
    fn of(outcome: PublishOutcome) -> Self {
        match outcome {
            PublishOutcome::Stored(placed) => Self::Stored(placed),
            PublishOutcome::KeyReused { index } => Self::KeyReused { index },
            // Applied by an earlier attempt, and not to be found any more.
            PublishOutcome::Already => Self::Late,
        }
    }
}

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

/// `count` shards that share the room there is. What the spool has goes to the shards of its runs.
pub(super) fn shards(count: usize, config: &PublishConfig, spool: &Spool) -> Vec<Shard> {
    let room = config.queue.as_usize() / count.max(1);
    let shard = |number| {
        let queue = Arc::new(Queue::new(room, spool.clone()));
        Shard { number, queue, writer: Mutex::default() }
    };
    let shards: Vec<Shard> = (0..count.max(1)).map(shard).collect();
    for (run, _) in spool.runs() {
        shards[super::arbiters::shard_of(&run, shards.len())].queue.found(&run);
    }
    shards
}

impl Shard {
    /// Takes a publish in, whose outcome is told to the receiver; straight into the spool if `spool` says
    /// so. Takes nothing if there is no room.
    pub(super) fn publish(
        &self,
        run: &RunId,
        events: Arc<[NewEvent]>,
        spool: bool,
    ) -> Result<oneshot::Receiver<Told>, NotTaken> {
        let (reply, outcome) = oneshot::channel();
        if self.queue.push(run, events, Some(reply), spool)? {
            self.wake();
        }
        Ok(outcome)
    }

    /// Takes a publish in whose outcome nobody waits for.
    pub(super) fn accept(
        &self,
        run: &RunId,
        events: Arc<[NewEvent]>,
        spool: bool,
    ) -> Result<(), NotTaken> {
        if self.queue.push(run, events, None, spool)? {
            self.wake();
        }
        Ok(())
    }

    /// Publishes that wait or are under way, and are in memory alone.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Puts what waits of a run into the spool.
    pub(super) fn spill_run(&self, run: &RunId) {
        self.queue.spill_run(run);
    }

    /// Puts all that waits into the spool.
    pub(super) fn spill_all(&self) {
        self.queue.spill_all();
    }

    /// Puts all that waits into the spool, and all that still comes.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Whether the spool has something that the store can take.
    pub(super) fn is_behind(&self) -> bool {
        self.queue.is_behind()
    }

    /// Whether the spool has something of this run.
    pub(super) fn is_run_behind(&self, run: &RunId) -> bool {
        self.queue.is_run_behind(run)
    }

    /// Tells the writer that there is something to do.
    pub(super) fn wake(&self) {
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
            number: self.number,
            generation: slot.generation,
            busy: false,
            rests: false,
            pause: FIRST_PAUSE,
            forgotten: Forgotten::default(),
            obituary: obituary_of(core, Component::Writer(self.number), slot.generation),
        };
        let arbiter = core.arbiters.handle(self.number);
        slot.actor = Some(WriterActor::start_in_arbiter(&arbiter, |_| actor));
    }

    /// The writer of this generation died. False if it has a successor already.
    pub(super) fn writer_died(&self, generation: u64) -> bool {
        let mut slot = self.writer.lock();
        let current = slot.generation == generation;
        if current {
            slot.actor = None;
        }
        current
    }

    /// The writer is stuck: whatever it still does counts no more.
    pub(super) fn writer_is_stuck(&self) {
        self.writer.lock().actor = None;
    }

    /// The shard's number, which is its thread's.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn generation(&self) -> u64 {
        self.writer.lock().generation
    }

    #[cfg(test)]
    pub(super) fn send_writer<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        WriterActor: Handler<M>,
    {
        if let Some(writer) = &self.writer.lock().actor {
            writer.do_send(message);
        }
    }
}

/// Pauses between attempts to write what the store did not take.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often a writer looks by itself for something to do: what was spooled while the store was well.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The actor; see the module.
pub(super) struct WriterActor {
    core: Weak<Core>,
    store: Arc<dyn LogStore>,
    queue: Arc<Queue>,
    number: usize,
    generation: u64,
    /// A call to the store is under way.
    busy: bool,
    /// The store failed; the next attempt is set.
    rests: bool,
    pause: Duration,
    forgotten: Forgotten,
    obituary: Obituary,
}

/// Request: there is something in the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

impl WriterActor {
    pub(super) const NAME: &'static str = "WriterActor";

    /// Does the next thing there is to do, unless something is under way.
    fn fly(&mut self, ctx: &mut Context<Self>) {
        let Some(core) = self.core.upgrade() else { return ctx.stop() };
        if core.shards[self.number].generation() != self.generation {
            // It was taken for stuck and was replaced.
            return ctx.stop();
        }
        if self.busy || self.rests {
            return;
        }
        if core.mode.is(Mode::Degraded) {
            // Nobody waits for a store that is away; the probe tells when it is back.
            self.queue.spill_all();
            return;
        }
        let (store, queue) = (Arc::clone(&self.store), Arc::clone(&self.queue));
        match self.queue.next_work(Instant::now()) {
            None => {}
            Some(Work::Send(flight)) => {
                self.busy = true;
                let core = self.core.clone();
                let sent = async move { send(&core, &*store, &queue, flight).await };
                ctx.spawn(
                    sent.into_actor(self).map(|failure, actor, ctx| actor.land(failure, ctx)),
                );
            }
            // What is left for the next life of the hub is safe where it is.
            Some(Work::Drain(_)) if core.is_closing() => {}
            Some(Work::Drain(runs)) => {
                self.busy = true;
                let (spool, window) = (core.spool.clone(), core.config.publish.dedup_window);
                let mut forgotten = std::mem::take(&mut self.forgotten);
                let drained = async move {
                    let known = &mut forgotten;
                    let drained = drain::drain(&*store, spool, &queue, runs, known, window);
                    (drained.await, forgotten)
                };
                ctx.spawn(drained.into_actor(self).map(|(trouble, forgotten), actor, ctx| {
                    actor.forgotten = forgotten;
                    actor.land(trouble, ctx);
                }));
            }
        }
    }

    fn land(&mut self, trouble: Option<Trouble>, ctx: &mut Context<Self>) {
        self.busy = false;
        match trouble {
            None => {
                self.pause = FIRST_PAUSE;
                self.fly(ctx);
                return;
            }
            Some(Trouble::Append(error)) => {
                metrics::store_failed("append");
                if let Some(core) = self.core.upgrade() {
                    core.tell_supervisor(StoreSeen(Err(error)));
                }
            }
            Some(Trouble::ReadBack) => metrics::store_failed("read back"),
            Some(Trouble::Spool) => {}
        }
        self.rests = true;
        ctx.run_later(self.pause, |actor, ctx| {
            actor.rests = false;
            actor.fly(ctx);
        });
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why something must be sent again.
enum Trouble {
    /// The store did not take it.
    Append(StoreError),
    /// The store could not be asked where it has something, or whether. That says nothing of its taking
    /// more.
    ReadBack,
    /// The spool could not be read.
    Spool,
}

/// Sends a batch and tells who waits.
async fn send(
    core: &Weak<Core>,
    store: &dyn LogStore,
    queue: &Arc<Queue>,
    flight: Flight,
) -> Option<Trouble> {
    let began = Instant::now();
    let (mut searched, mut reused) = (Vec::new(), Vec::new());
    let appends = match flight.must_search() {
        false => flight.appends(),
        true => {
            searched.extend_from_slice(flight.appends());
            reused.resize(searched.len(), 0);
            for (append, reused) in searched.iter_mut().zip(&mut reused) {
                for publish in &mut append.publishes {
                    let found =
                        search::leave_out_known(store, &append.run, &mut publish.events).await;
                    let Ok(left_out) = found else {
                        // Nothing was sent; it is tried again.
                        let reason = "the run could not be searched".to_owned();
                        let error = StoreError::Unreachable { reason };
                        let results = flight.appends().iter().map(|_| Err(error.clone()));
                        let _ = queue.settle(&flight, results.collect());
                        return Some(Trouble::ReadBack);
                    };
                    *reused += left_out;
                }
            }
            &searched
        }
    };
    let results = store.append(appends).await;
    metrics::appended(flight.events(), began.elapsed());
    let mut failed = results.iter().filter_map(|result| result.as_ref().err());
    let mut trouble = failed.find(|e| e.is_the_stores()).cloned().map(Trouble::Append);
    let mut told = Vec::with_capacity(results.len());
    let reused = reused.into_iter().chain(iter::repeat(0));
    for ((append, reused), result) in flight.appends().iter().zip(reused).zip(results) {
        told.push(match result {
            Ok(outcomes) => {
                left_out::tell(&append.run, reused, &outcomes);
                let read = readback::told(store, append, outcomes).await;
                if read.is_err() && trouble.is_none() {
                    trouble = Some(Trouble::ReadBack);
                }
                // Whatever the read met: the write has happened.
                read.map_err(|e| StoreError::NoAnswer { reason: e.to_string() })
            }
            Err(error) => Err(error),
        });
    }
    let readers = core.upgrade().map_or(0, |core| {
        flight.appends().iter().map(|append| core.registry.subscribers(&append.run)).sum()
    });
    first::let_readers_hear(readers).await;
    // What cannot be spooled either is not to be sent again at once.
    let is_settled = queue.settle(&flight, told);
    trouble.or_else(|| (!is_settled).then_some(Trouble::Spool))
}

impl Actor for WriterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.obituary.begin();
        ctx.run_interval(LOOK_EVERY, Self::fly);
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

#[cfg(test)]
impl Handler<crate::hub::tests::Stall> for WriterActor {
    type Result = ();

    fn handle(&mut self, stall: crate::hub::tests::Stall, _: &mut Self::Context) {
        stall.wait();
    }
}
