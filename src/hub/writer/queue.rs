//! What waits to be appended to the runs of a shard, the batch under way, and what had to go to the spool.
//! It outlives the WriterActor that empties it.
//!
//! A run is either live, its publishes waiting here, or behind: then they go to the spool, in order, until
//! what is there has reached the store.

use super::Told;
use super::backlog::Backlog;
use crate::event::{NewEvent, RunId};
use crate::spool::{Done, Spool, SpoolError, SpooledPublish};
use crate::store::{Publish, PublishOutcome, RunAppend, StoreError};
use crate::telemetry::metrics;
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
    bytes: usize,
    reply: Option<Reply>,
}

/// A batch under way, or one that is to be sent again: the appends, and who waits for each publish.
struct FlightState {
    legs: Vec<Leg>,
    /// The attempt that is under way, if one is.
    attempt: Option<u64>,
}

struct Leg {
    append: RunAppend,
    replies: Vec<Option<Reply>>,
    bytes: usize,
    /// Whether the store may have applied it: then it goes again as it is, or not at all.
    may_be_applied: bool,
    /// It is in the spool under the same numbers, which is what counts from then on.
    spilled: bool,
}

/// What a writer is to do next.
pub(super) enum Work {
    /// To send this batch.
    Send(Flight),
    /// To send what the spool has of these runs.
    Drain(Vec<RunId>),
}

/// A batch to send to the store.
pub(super) struct Flight {
    attempt: u64,
    legs: Vec<RunAppend>,
}

impl Flight {
    pub(super) fn appends(&self) -> &[RunAppend] {
        &self.legs
    }

    /// Whether some of it may be in its run already, under an id that a hub made.
    pub(super) fn must_search(&self) -> bool {
        let publishes = self.legs.iter().flat_map(|leg| &leg.publishes);
        publishes.flat_map(|publish| publish.events.iter()).any(|new| new.search_first)
    }

    pub(super) fn events(&self) -> usize {
        let publishes = self.legs.iter().flat_map(|leg| &leg.publishes);
        publishes.map(|publish| publish.events.len()).sum()
    }
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
        let bytes = size_of_events(&events);
        let crowded = state.bytes > 0 && state.bytes + bytes > self.room;
        if spool || crowded || state.closed || state.backlog.must_spool(run) {
            // What came before it goes before it.
            let state = &mut *state;
            self.spill(state, |other| other == run);
            if state.holds(run) {
                return Err(NotTaken::Full);
            }
            let number = state.take_number();
            let publish = Publish { number, events, answered: true };
            let kept = self.to_spool(state, run, vec![(publish, reply)], false);
            return kept.map(|()| false).map_err(|_| NotTaken::Full);
        }
        state.bytes += bytes;
        let idle = state.flight.is_none();
        state.waiting.push_back(Pending { run: run.clone(), events, bytes, reply });
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

    fn spill(self: &Arc<Self>, state: &mut State, which: impl Fn(&RunId) -> bool) {
        if let Some(mut flight) = state.flight.take() {
            for leg in flight.legs.iter_mut().filter(|leg| !leg.spilled && which(&leg.append.run)) {
                self.spill_leg(state, leg);
            }
            if flight.attempt.is_none() {
                flight.legs.retain(|leg| !leg.spilled);
            }
            state.flight = (!flight.legs.is_empty()).then_some(flight);
        }
        let mut stays = VecDeque::new();
        // Behind what is still under way none of its run may be spooled.
        let legs = state.flight.iter().flat_map(|flight| &flight.legs);
        let unspilled = legs.filter(|leg| !leg.spilled).map(|leg| leg.append.run.clone());
        let mut refused: Vec<RunId> = unspilled.filter(|run| which(run)).collect();
        for pending in std::mem::take(&mut state.waiting) {
            if !which(&pending.run) {
                stays.push_back(pending);
                continue;
            }
            let Pending { run, events, bytes, reply } = pending;
            if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
                // Its publisher is gone and was told nothing; it must not happen after all.
                state.bytes -= bytes;
                continue;
            }
            // Behind one that could not be spooled none of its run may be.
            let kept = if refused.contains(&run) {
                Err(vec![reply])
            } else {
                let publish = Publish {
                    number: state.take_number(),
                    events: Arc::clone(&events),
                    answered: true,
                };
                self.to_spool(state, &run, vec![(publish, reply)], false)
            };
            match kept.map_err(|mut replies| replies.pop().flatten()) {
                Ok(()) => state.bytes -= bytes,
                Err(Some(reply)) => {
                    drop(reply.send(Told::NoRoom(SpoolError::Full)));
                    state.bytes -= bytes;
                    refused.push(run);
                }
                Err(None) => {
                    // It was accepted into memory, so there it stays.
                    refused.push(run.clone());
                    stays.push_back(Pending { run, events, bytes, reply: None });
                }
            }
        }
        state.waiting = stays;
    }

    fn spill_leg(self: &Arc<Self>, state: &mut State, leg: &mut Leg) {
        let publishes = leg.append.publishes.iter().cloned().zip(leg.replies.drain(..)).collect();
        match self.to_spool(state, &leg.append.run, publishes, true) {
            Ok(()) => leg.spilled = true,
            Err(replies) => {
                // It may have been stored, so that nobody can be told that there was no room. What was
                // accepted into memory is sent again.
                let mut accepted = replies.iter().map(Option::is_none);
                leg.append.publishes.retain(|_| accepted.next().unwrap_or(false));
                for reply in replies.into_iter().flatten() {
                    drop(reply.send(Told::Late));
                }
                let left = leg.append.publishes.iter().map(|p| size_of_events(&p.events)).sum();
                state.bytes -= leg.bytes - left;
                leg.bytes = left;
                leg.replies = leg.append.publishes.iter().map(|_| None).collect();
                leg.spilled = leg.append.publishes.is_empty();
            }
        }
        if leg.spilled {
            state.bytes -= std::mem::take(&mut leg.bytes);
        }
    }

    /// Gives publishes of a run to the spool, all or none; with none the replies come back.
    fn to_spool(
        self: &Arc<Self>,
        state: &mut State,
        run: &RunId,
        publishes: Vec<(Publish, Option<Reply>)>,
        sent: bool,
    ) -> Result<(), Vec<Option<Reply>>> {
        let count = publishes.len();
        let (mut records, mut replies) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (publish, reply) in publishes {
            let Publish { number, mut events, .. } = publish;
            if events.iter().any(|new| !new.key_is_given) {
                // Its publisher is told the ids before the store has them: they may come back at once.
                let known =
                    events.iter().cloned().map(|new| NewEvent { key_is_given: true, ..new });
                events = known.collect();
            }
            records.push(SpooledPublish { run: run.clone(), writer: self.writer, number, events });
            replies.push(reply);
        }
        if self.spool.reserve(&records).is_err() {
            return Err(replies);
        }
        for (record, reply) in records.into_iter().zip(replies) {
            state.backlog.add(run);
            let done = self.when_written(&record, reply, sent);
            self.spool.append(record, done);
        }
        Ok(())
    }

    /// Tells whoever waits that a publish is on the disk, or why it is not.
    fn when_written(
        self: &Arc<Self>,
        record: &SpooledPublish,
        reply: Option<Reply>,
        sent: bool,
    ) -> Done {
        let (queue, run, events) =
            (Arc::clone(self), record.run.clone(), Arc::clone(&record.events));
        Box::new(move |written| {
            let mut state = queue.state.lock();
            state.backlog.written(&run, queue.spool.waiting(&run));
            match (written, reply) {
                (Ok(()), None) => {}
                (Ok(()), Some(reply)) => drop(reply.send(Told::Spooled)),
                // What was sent may have been stored.
                (Err(_), Some(reply)) if sent => drop(reply.send(Told::Late)),
                (Err(error), Some(reply)) => drop(reply.send(Told::NoRoom(error))),
                // It was accepted into memory, so there it stays.
                (Err(_), None) => {
                    let bytes = size_of_events(&events);
                    state.bytes += bytes;
                    state.waiting.push_back(Pending { run, events, bytes, reply: None });
                }
            }
        })
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
            let publish = Publish { number, events: pending.events, answered };
            leg.append.publishes.push(publish);
            leg.replies.push(pending.reply);
            leg.bytes += pending.bytes;
        }
        for pending in behind.into_iter().rev() {
            state.waiting.push_front(pending);
        }
        (!legs.is_empty()).then_some(FlightState { legs, attempt: None })
    }

    /// Tells those who wait what became of their publishes. What the store surely did not take waits
    /// again, at the front; what it may have taken stays under way, to be sent again under its numbers. An
    /// attempt that another has overtaken says nothing any more. False if a run that moves could not be spooled, and
    /// so is to be sent again.
    pub(super) fn settle(
        self: &Arc<Self>,
        flight: &Flight,
        results: Vec<Result<Vec<PublishOutcome>, StoreError>>,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mine = |under_way: &mut FlightState| under_way.attempt == Some(flight.attempt);
        let Some(FlightState { legs, .. }) = state.flight.take_if(mine) else { return true };
        debug_assert_eq!(legs.len(), flight.legs.len());
        let (mut again, mut back, mut moving) = (Vec::new(), Vec::new(), Vec::new());
        for (mut leg, result) in legs.into_iter().zip(results) {
            if leg.spilled {
                continue;
            }
            match result {
                Err(error) if error.is_transient() => {
                    leg.may_be_applied |= error.outcome_is_unknown();
                    if !error.is_the_stores() {
                        moving.push(leg.append.run.clone());
                    }
                    if leg.may_be_applied { &mut again } else { &mut back }.push(leg);
                }
                Err(error) => {
                    state.bytes -= leg.bytes;
                    // What was accepted must wait for its run, in the spool, where it stops no other.
                    let mut accepted = Vec::new();
                    for (publish, reply) in leg.append.publishes.into_iter().zip(leg.replies) {
                        match reply {
                            Some(reply) => drop(reply.send(Told::Broken(error.clone()))),
                            None => accepted.push((publish, None)),
                        }
                    }
                    let count = accepted.len();
                    let run = &leg.append.run;
                    if count > 0 && self.to_spool(state, run, accepted, true).is_err() {
                        log::error!(
                            "{count} accepted publishes of run {run} are lost: its store cannot serve \
                             it, and the spool has no room: {error}"
                        );
                    }
                }
                Ok(outcomes) => {
                    state.bytes -= leg.bytes;
                    for (reply, outcome) in leg.replies.into_iter().zip(outcomes) {
                        if let Some(reply) = reply {
                            drop(reply.send(Told::of(outcome)));
                        }
                    }
                }
            }
        }
        for pending in back.into_iter().flat_map(Leg::into_waiting).rev().collect::<Vec<_>>() {
            state.waiting.push_front(pending);
        }
        state.flight = (!again.is_empty()).then_some(FlightState { legs: again, attempt: None });
        if moving.is_empty() {
            return true;
        }
        // Those wait in the spool, where they stop no others.
        self.spill(state, |run| moving.contains(run));
        moving.iter().for_each(|run| state.backlog.let_be(run, Instant::now()));
        let legs = state.flight.iter().flat_map(|flight| &flight.legs).map(|leg| &leg.append.run);
        let mut left = legs.chain(state.waiting.iter().map(|pending| &pending.run));
        !left.any(|run| moving.contains(run))
    }

    /// `taken` publishes of a run, read from the spool, are about to be sent.
    pub(super) fn drain_begins(&self, run: &RunId, taken: usize) {
        self.state.lock().backlog.taken(run, taken, self.spool.waiting(run));
    }

    /// What became of a run's publishes from the spool, the last of them at `seq`.
    pub(super) fn drain_ended(
        self: &Arc<Self>,
        run: &RunId,
        drained: Option<(u64, usize)>,
        result: &Result<(), StoreError>,
    ) {
        let mut state = self.state.lock();
        match (result, drained) {
            (Ok(()), drained) => {
                if let Some((seq, events)) = drained {
                    self.spool.drained(run, seq);
                    metrics::drained(events as u64);
                }
                state.backlog.drained(run, self.spool.waiting(run));
            }
            (Err(error), _) if error.is_the_stores() => state.backlog.not_drained(run),
            (Err(error), _) if error.is_transient() => {
                state.backlog.let_be(run, Instant::now());
                // What has come meanwhile waited for the end of this.
                self.spill(&mut state, |other| other == run);
            }
            (Err(error), _) => {
                if state.backlog.park(run, Instant::now(), Some(error.clone())) {
                    log::error!(
                        "run {run} keeps its events in the spool until its store can serve it: {error}"
                    );
                }
            }
        }
    }

    /// The disk does not give what the spool has of a run.
    pub(super) fn cannot_be_read(&self, run: &RunId, error: &std::io::Error) {
        if self.state.lock().backlog.park(run, Instant::now(), None) {
            log::error!(
                "run {run} keeps its events in the spool, which cannot be read just now: {error}"
            );
        }
    }

    /// These runs had no part in a drain, for which what came before them was enough.
    pub(super) fn put_off(&self, runs: &[RunId]) {
        if !runs.is_empty() {
            self.state.lock().backlog.put_off(runs);
        }
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

impl Leg {
    fn into_waiting(self) -> Vec<Pending> {
        let RunAppend { run, publishes, .. } = self.append;
        let pending = |(publish, reply): (Publish, _)| {
            let (events, run) = (publish.events, run.clone());
            let bytes = size_of_events(&events);
            Pending { run, events, bytes, reply }
        };
        publishes.into_iter().zip(self.replies).map(pending).collect()
    }

    fn is_wanted(&self) -> bool {
        self.replies.iter().any(|reply| reply.as_ref().is_none_or(|reply| !reply.is_closed()))
    }
}

#[cfg(test)]
mod tests;
