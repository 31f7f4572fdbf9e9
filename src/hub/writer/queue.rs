//! What waits to be appended to the runs of a shard, the batch under way, and what had to go to the spool.
//! It outlives the WriterActor that empties it.
//!
//! A run is either live, its publishes waiting here, or behind: then they go to the spool, in order, until
//! what is there has reached the store.

mod drained;
mod flight;
mod settle;
mod spill;
#[cfg(test)]
mod tests;

use super::Told;
use super::backlog::Backlog;
use crate::event::{NewEvent, RunId, Timestamp};
use crate::spool::Spool;
use crate::store::{Publish, RunAppend, StoreError};
pub(super) use flight::Flight;
use flight::{FlightState, Leg};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// The most events and bytes of one batch; one publish is never split.
pub(super) const BATCH_EVENTS: usize = 1000;
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// The most runs drained at a time.
const DRAIN_RUNS: usize = 64;

/// A publish is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many events wait for the store.
    Full,
    /// The store cannot serve the run, of which the spool has something already: more would only fill it.
    Broken(StoreError),
}

/// Whoever waits for a publish.
pub(super) type Reply = oneshot::Sender<Told>;

pub(super) struct Queue {
    /// Names this process's writer of this shard to the store.
    writer: u64,
    room: usize,
    spool: Spool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    bytes: usize,
    flight: Option<FlightState>,
    attempts: u64,
    next_number: u64,
    backlog: Backlog,
    /// Whether the spool is next, if both it and the queue hold something.
    drain_next: bool,
    /// Whatever comes now goes to the spool: nobody may be there to send it.
    closed: bool,
}

struct Pending {
    run: RunId,
    events: Arc<[NewEvent]>,
    published_ms: u64,
    bytes: usize,
    reply: Option<Reply>,
}

/// What a writer is to do next.
pub(super) enum Work {
    /// To send this batch.
    Send(Flight),
    /// To send what the spool has of these runs.
    Drain(Vec<RunId>),
}

/// About what an event takes in memory beside its texts.
const OVERHEAD: usize = 384;

fn size_of_events(events: &[NewEvent]) -> usize {
    events.iter().map(|new| new.event.text_bytes() + OVERHEAD).sum()
}

impl Queue {
    pub(super) fn new(room: usize, spool: Spool) -> Self {
        let state = State { next_number: 1, ..State::default() };
        Self { writer: rand::random(), room, spool, state: Mutex::new(state) }
    }

    /// The spool has something of this run, from an earlier life of the hub.
    pub(super) fn found(&self, run: &RunId) {
        self.state.lock().backlog.found(run);
    }

    /// Takes a publish in; into the spool, if `spool` says so, its run is behind, or there is no room in
    /// memory. True if the writer may be asleep.
    pub(super) fn push(
        self: &Arc<Self>,
        run: &RunId,
        events: Arc<[NewEvent]>,
        reply: Option<Reply>,
        spool: bool,
    ) -> Result<bool, NotTaken> {
        let mut state = self.state.lock();
        if let Some(broken) = state.backlog.broken(run) {
            return Err(NotTaken::Broken(broken.clone()));
        }
        let (bytes, published_ms) = (size_of_events(&events), Timestamp::now().as_ms());
        let crowded = state.bytes > 0 && state.bytes + bytes > self.room;
        if spool || crowded || state.closed || state.backlog.must_spool(run) {
            // What came before it goes before it.
            let state = &mut *state;
            self.spill(state, |other| other == run);
            if state.holds(run) {
                return Err(NotTaken::Full);
            }
            let number = state.take_number();
            let publish = Publish { number, events, published_ms, answered: true };
            let kept = self.to_spool(state, run, vec![(publish, reply)], false);
            return kept.map(|()| false).map_err(|_| NotTaken::Full);
        }
        state.bytes += bytes;
        let idle = state.flight.is_none();
        state.waiting.push_back(Pending { run: run.clone(), events, published_ms, bytes, reply });
        Ok(idle)
    }

    /// Publishes that wait or are under way, in memory alone.
    pub(super) fn waiting(&self) -> usize {
        let state = self.state.lock();
        let legs = state.flight.iter().flat_map(|flight| &flight.legs);
        state.waiting.len() + legs.filter(|leg| !leg.spilled).count()
    }

    /// Whether the spool has something that the store can take.
    pub(super) fn is_behind(&self) -> bool {
        self.state.lock().backlog.has_hope()
    }

    /// Whether the spool has something of this run.
    pub(super) fn is_run_behind(&self, run: &RunId) -> bool {
        self.state.lock().backlog.holds(run)
    }

    /// Puts what waits of a run, and what is under way, into the spool.
    pub(super) fn spill_run(self: &Arc<Self>, run: &RunId) {
        self.spill(&mut self.state.lock(), |other| other == run);
    }

    /// Puts all that waits, and what is under way, into the spool.
    pub(super) fn spill_all(self: &Arc<Self>) {
        self.spill(&mut self.state.lock(), |_| true);
    }

    /// As [`spill_all`](Self::spill_all), and whatever comes later goes to the spool as well.
    pub(super) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        self.spill(&mut state, |_| true);
    }

    /// The next thing to do: to send again what has to go again, or in turns what waits and what is
    /// spooled.
    pub(super) fn next_work(&self, now: Instant) -> Option<Work> {
        let mut state = self.state.lock();
        if let Some(FlightState { mut legs, attempt }) = state.flight.take() {
            legs.retain(|leg| !leg.spilled);
            if attempt.is_some() {
                // Whoever made that attempt died of it, or is stuck: nobody knows what became of it.
                legs.iter_mut().for_each(|leg| leg.may_be_applied = true);
            }
            // Whoever gave up since the last attempt was told that it failed.
            let given_up: Vec<Leg> = legs.extract_if(.., |leg| !leg.is_wanted()).collect();
            state.bytes -= given_up.iter().map(|leg| leg.bytes).sum::<usize>();
            state.flight = (!legs.is_empty()).then_some(FlightState { legs, attempt: None });
        }
        if state.flight.is_none() {
            state.drain_next = !state.drain_next;
            if !state.drain_next {
                state.flight = self.gather(&mut state);
            }
            if state.flight.is_none() && !state.backlog.is_empty() {
                let mut runs = state.backlog.next(now, DRAIN_RUNS);
                // Of some all may still be on its way to the disk.
                runs.retain(|run| self.spool.waiting(run) > 0);
                if !runs.is_empty() {
                    return Some(Work::Drain(runs));
                }
            }
            if state.flight.is_none() && state.drain_next {
                state.flight = self.gather(&mut state);
            }
        }
        state.attempts += 1;
        let attempt = state.attempts;
        let flight = state.flight.as_mut()?;
        flight.attempt = Some(attempt);
        let legs = flight.legs.iter().map(|leg| leg.append.clone()).collect();
        Some(Work::Send(Flight { attempt, legs }))
    }

    fn gather(&self, state: &mut State) -> Option<FlightState> {
        let mut legs: Vec<Leg> = Vec::new();
        let mut places: HashMap<RunId, usize> = HashMap::new();
        let mut behind: Vec<Pending> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = state.waiting.front() {
            let full =
                events + next.events.len() > BATCH_EVENTS || bytes + next.bytes > BATCH_BYTES;
            if events > 0 && full {
                break;
            }
            let Some(pending) = state.waiting.pop_front() else { break };
            if pending.reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
                // Its publisher was told that it failed; it must not happen after all.
                state.bytes -= pending.bytes;
                continue;
            }
            if state.backlog.holds(&pending.run) {
                behind.push(pending);
                continue;
            }
            events += pending.events.len();
            bytes += pending.bytes;
            let number = state.take_number();
            let place = *places.entry(pending.run.clone()).or_insert_with(|| {
                let writer = self.writer;
                let append = RunAppend { run: pending.run, writer, publishes: Vec::new() };
                let replies = Vec::new();
                legs.push(Leg { append, replies, bytes: 0, may_be_applied: false, spilled: false });
                legs.len() - 1
            });
            let leg = &mut legs[place];
            // Who waits for nothing was answered.
            let answered = pending.reply.is_none();
            let Pending { events, published_ms, .. } = pending;
            leg.append.publishes.push(Publish { number, events, published_ms, answered });
            leg.replies.push(pending.reply);
            leg.bytes += pending.bytes;
        }
        for pending in behind.into_iter().rev() {
            state.waiting.push_front(pending);
        }
        (!legs.is_empty()).then_some(FlightState { legs, attempt: None })
    }
}

impl State {
    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Whether something of a run is here that is not in the spool.
    fn holds(&self, run: &RunId) -> bool {
        let legs = self.flight.iter().flat_map(|flight| &flight.legs);
        let flies = legs.filter(|leg| !leg.spilled).any(|leg| leg.append.run == *run);
        flies || self.waiting.iter().any(|pending| pending.run == *run)
    }
}
