//! What waits to be appended to the runs of a shard, and the batch under way. It outlives the WriterActor
//! that empties it.

use super::Written;
use crate::event::{NewEvent, RunId};
use crate::store::{Appended, BatchToken, RunAppend, StoreError};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The most events and bytes of one batch; one publish is never split.
const BATCH_EVENTS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// There is no room for a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many events wait for the store")]
pub(crate) struct QueueFull;

pub(super) struct Queue {
    /// Names this process's writer of this shard to the store.
    writer: u64,
    room: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    bytes: usize,
    flight: Option<FlightState>,
    next_batch: u64,
}

struct Pending {
    run: RunId,
    events: Arc<[NewEvent]>,
    bytes: usize,
    reply: Option<oneshot::Sender<Written>>,
}

/// A batch under way: the appends, and who waits for each publish of each.
struct FlightState {
    legs: Vec<Leg>,
}

struct Leg {
    append: RunAppend,
    replies: Vec<Option<oneshot::Sender<Written>>>,
    bytes: usize,
    /// Whether the store may have applied it: then it goes again as it is, or not at all.
    may_be_applied: bool,
}

/// A batch to send to the store.
pub(super) struct Flight {
    legs: Vec<RunAppend>,
}

impl Flight {
    pub(super) fn appends(&self) -> &[RunAppend] {
        &self.legs
    }

    pub(super) fn events(&self) -> usize {
        self.legs.iter().flat_map(|leg| &leg.publishes).map(|publish| publish.len()).sum()
    }
}

/// About what an event takes in memory beside its data.
const OVERHEAD: usize = 512;

fn size_of_events(events: &[NewEvent]) -> usize {
    events.iter().map(|new| new.event.data.len() + OVERHEAD).sum()
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self {
            writer: rand::random(),
            room,
            state: Mutex::new(State { next_batch: 1, ..State::default() }),
        }
    }

    /// Takes a publish in. True if the writer may be asleep.
    pub(super) fn push(
        &self,
        run: &RunId,
        events: Arc<[NewEvent]>,
        reply: Option<oneshot::Sender<Written>>,
    ) -> Result<bool, QueueFull> {
        let bytes = size_of_events(&events);
        let mut state = self.state.lock();
        if state.bytes > 0 && state.bytes + bytes > self.room {
            return Err(QueueFull);
        }
        state.bytes += bytes;
        let idle = state.waiting.is_empty() && state.flight.is_none();
        state.waiting.push_back(Pending { run: run.clone(), events, bytes, reply });
        Ok(idle)
    }

    /// Publishes that wait or are under way.
    pub(super) fn waiting(&self) -> usize {
        let state = self.state.lock();
        let flying = state.flight.as_ref().map_or(0, |flight| flight.legs.len());
        state.waiting.len() + flying
    }

    /// The batch under way, if one is: it is to be sent again. Else a new one of what waits.
    pub(super) fn next_flight(&self) -> Option<Flight> {
        let mut state = self.state.lock();
        if let Some(FlightState { mut legs }) = state.flight.take() {
            // Whoever gave up since the last attempt was told that it failed.
            let given_up: Vec<Leg> = legs.extract_if(.., |leg| !leg.is_wanted()).collect();
            state.bytes -= given_up.iter().map(|leg| leg.bytes).sum::<usize>();
            state.flight = (!legs.is_empty()).then_some(FlightState { legs });
        }
        if state.flight.is_none() {
            state.flight = self.gather(&mut state);
        }
        let legs = &state.flight.as_ref()?.legs;
        Some(Flight { legs: legs.iter().map(|leg| leg.append.clone()).collect() })
    }

    fn gather(&self, state: &mut State) -> Option<FlightState> {
        let mut legs: Vec<Leg> = Vec::new();
        let mut places: HashMap<RunId, usize> = HashMap::new();
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
            events += pending.events.len();
            bytes += pending.bytes;
            let place = *places.entry(pending.run.clone()).or_insert_with(|| {
                let token = BatchToken { writer: self.writer, batch: state.next_batch };
                state.next_batch += 1;
                let append = RunAppend { run: pending.run, token, publishes: Vec::new() };
                legs.push(Leg { append, replies: Vec::new(), bytes: 0, may_be_applied: false });
                legs.len() - 1
            });
            let leg = &mut legs[place];
            leg.append.publishes.push(pending.events);
            leg.replies.push(pending.reply);
            leg.bytes += pending.bytes;
        }
        (!legs.is_empty()).then_some(FlightState { legs })
    }

    /// Tells those who wait what became of their publishes. What the store surely did not take waits
    /// again, at the front; what it may have taken stays under way, to be sent again under its name.
    pub(super) fn settle(&self, flight: &Flight, results: Vec<Result<Appended, StoreError>>) {
        let mut state = self.state.lock();
        let Some(FlightState { legs }) = state.flight.take() else { return };
        debug_assert_eq!(legs.len(), flight.legs.len());
        let (mut again, mut back) = (Vec::new(), Vec::new());
        for (mut leg, result) in legs.into_iter().zip(results) {
            match result {
                Err(error) if error.is_transient() => {
                    leg.may_be_applied |= error.outcome_is_unknown();
                    if leg.may_be_applied { &mut again } else { &mut back }.push(leg);
                }
                Err(error) => {
                    state.bytes -= leg.bytes;
                    for reply in leg.replies.into_iter().flatten() {
                        drop(reply.send(Err(error.clone())));
                    }
                }
                Ok(Appended::Now(outcomes)) => {
                    state.bytes -= leg.bytes;
                    for (reply, outcome) in leg.replies.into_iter().zip(outcomes) {
                        if let Some(reply) = reply {
                            drop(reply.send(Ok(outcome)));
                        }
                    }
                }
                // Applied by an earlier attempt, and not to be found any more: who waits hears nothing,
                // which means that it may have been stored.
                Ok(Appended::Already) => state.bytes -= leg.bytes,
            }
        }
        for pending in back.into_iter().flat_map(Leg::into_waiting).rev().collect::<Vec<_>>() {
            state.waiting.push_front(pending);
        }
        state.flight = (!again.is_empty()).then_some(FlightState { legs: again });
    }
}

impl Leg {
    fn into_waiting(self) -> Vec<Pending> {
        let RunAppend { run, publishes, .. } = self.append;
        let pending = |(events, reply): (Arc<[NewEvent]>, _)| {
            let bytes = size_of_events(&events);
            Pending { run: run.clone(), events, bytes, reply }
        };
        publishes.into_iter().zip(self.replies).map(pending).collect()
    }

    fn is_wanted(&self) -> bool {
        self.replies.iter().any(|reply| reply.as_ref().is_none_or(|reply| !reply.is_closed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{EventId, Sequence, Timestamp};
    use crate::store::{Placed, PublishOutcome};

    fn publish(run: &RunId, count: usize) -> Arc<[NewEvent]> {
        let limits = EventLimits { max_data: 1 << 20 };
        let event = parse_event(run, r#"{"type":"a.b"}"#, Timestamp::now(), limits).unwrap();
        (0..count).map(|_| NewEvent::new(event.clone())).collect()
    }

    fn stored(count: usize) -> PublishOutcome {
        let placed = Placed { id: EventId::new(1, 0), sequence: Sequence(1), duplicate: false };
        PublishOutcome::Stored(vec![placed; count])
    }

    #[test]
    fn what_gathers_goes_together_in_order_and_within_bounds() {
        let queue = Queue::new(64 << 20);
        let (a, b) = (RunId::parse("a").unwrap(), RunId::parse("b").unwrap());
        assert_eq!(queue.push(&a, publish(&a, 1), None), Ok(true));
        assert_eq!(queue.push(&b, publish(&b, 600), None), Ok(false));
        assert_eq!(queue.push(&a, publish(&a, 2), None), Ok(false));
        assert_eq!(queue.push(&a, publish(&a, 900), None), Ok(false));
        let flight = queue.next_flight().unwrap();
        let sizes: Vec<_> =
            flight.legs.iter().map(|l| (l.run.as_str(), l.publishes.len())).collect();
        assert_eq!(sizes, [("a", 2), ("b", 1)]);
        queue.settle(
            &flight,
            vec![
                Ok(Appended::Now(vec![stored(1), stored(2)])),
                Ok(Appended::Now(vec![stored(600)])),
            ],
        );
        assert_eq!(queue.next_flight().unwrap().events(), 900);
    }

    #[test]
    fn a_batch_that_failed_is_sent_again_under_its_name() {
        let (queue, run) = (Queue::new(1 << 20), RunId::parse("a").unwrap());
        queue.push(&run, publish(&run, 1), None).unwrap();
        let first = queue.next_flight().unwrap();
        queue.settle(&first, vec![Err(StoreError::NoAnswer { reason: String::new() })]);
        let second = queue.next_flight().unwrap();
        assert_eq!(first.legs[0].token, second.legs[0].token);
        queue.settle(&second, vec![Ok(Appended::Now(vec![stored(1)]))]);
        assert!(queue.next_flight().is_none());
        assert_eq!(queue.state.lock().bytes, 0);
    }

    #[test]
    fn a_batch_that_was_refused_waits_again_in_its_order() {
        let (queue, run) = (Queue::new(1 << 20), RunId::parse("a").unwrap());
        let (reply, outcome) = oneshot::channel();
        queue.push(&run, publish(&run, 1), Some(reply)).unwrap();
        queue.push(&run, publish(&run, 2), None).unwrap();
        let first = queue.next_flight().unwrap();
        queue.push(&run, publish(&run, 3), None).unwrap();
        queue.settle(&first, vec![Err(StoreError::Refused { reason: String::new() })]);
        drop(outcome);
        let second = queue.next_flight().unwrap();
        let sizes: Vec<_> = second.legs[0].publishes.iter().map(|p| p.len()).collect();
        assert_eq!(sizes, [2, 3]);
        queue.settle(&second, vec![Ok(Appended::Now(vec![stored(2), stored(3)]))]);
        assert_eq!((queue.waiting(), queue.state.lock().bytes), (0, 0));
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_sent_and_the_room_is_bounded() {
        let (queue, run) = (Queue::new(2000), RunId::parse("a").unwrap());
        let (reply, outcome) = oneshot::channel();
        queue.push(&run, publish(&run, 3), Some(reply)).unwrap();
        assert_eq!(queue.push(&run, publish(&run, 3), None), Err(QueueFull));
        drop(outcome);
        assert!(queue.next_flight().is_none());
        assert_eq!(queue.push(&run, publish(&run, 30), None), Ok(true));
    }
}
