//! What became of a batch: who is told, and what goes again.

use super::super::Told;
use super::Queue;
use super::flight::{Flight, FlightState, Leg};
use crate::store::{PublishOutcome, StoreError};
use std::sync::Arc;
use std::time::Instant;

impl Queue {
    /// Tells those who wait what became of their publishes. What the store surely did not take waits
    /// again, at the front; what it may have taken stays under way, to be sent again under its numbers. An
    /// attempt that another has overtaken says nothing any more. False if a run that moves could not be spooled, and
    /// so is to be sent again.
    pub(in crate::hub::writer) fn settle(
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
}
