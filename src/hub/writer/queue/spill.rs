//! What waits, or is under way, and goes to the spool instead.

use super::super::Told;
use super::flight::Leg;
use super::{Pending, Queue, Reply, State, size_of_events};
use crate::event::{NewEvent, RunId};
use crate::spool::{Done, SpoolError, SpooledPublish};
use crate::store::Publish;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Queue {
    pub(super) fn spill(self: &Arc<Self>, state: &mut State, which: impl Fn(&RunId) -> bool) {
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
            let Pending { run, events, published_ms, bytes, reply } = pending;
            if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
                // Its publisher is gone and was told nothing; it must not happen after all.
                state.bytes -= bytes;
                continue;
            }
            // Behind one that could not be spooled none of its run may be.
            let kept = if refused.contains(&run) {
                Err(vec![reply])
            } else {
                let (number, events) = (state.take_number(), Arc::clone(&events));
                let publish = Publish { number, events, published_ms, answered: true };
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
                    stays.push_back(Pending { run, events, published_ms, bytes, reply: None });
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
    pub(super) fn to_spool(
        self: &Arc<Self>,
        state: &mut State,
        run: &RunId,
        publishes: Vec<(Publish, Option<Reply>)>,
        sent: bool,
    ) -> Result<(), Vec<Option<Reply>>> {
        let count = publishes.len();
        let (mut records, mut replies) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (publish, reply) in publishes {
            let Publish { number, mut events, published_ms, .. } = publish;
            if events.iter().any(|new| !new.key_is_given) {
                // Its publisher is told the ids before the store has them: they may come back at once.
                let known =
                    events.iter().cloned().map(|new| NewEvent { key_is_given: true, ..new });
                events = known.collect();
            }
            let (run, writer) = (run.clone(), self.writer);
            records.push(SpooledPublish { run, writer, number, published_ms, events });
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
        let published_ms = record.published_ms;
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
                    let reply = None;
                    state.waiting.push_back(Pending { run, events, published_ms, bytes, reply });
                }
            }
        })
    }
}
