//! Making events, and a writer that appends them as a hub's writer does.

use super::Store;
use runhub::event::parse::{EventLimits, parse_event};
use runhub::event::{NewEvent, RunId, Timestamp};
use runhub::store::{Placed, Publish, PublishOutcome, RunAppend};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub fn run_id(name: &str) -> RunId {
    RunId::parse(name).unwrap()
}

/// An event from a publisher's JSON.
pub fn event(run: &RunId, json: &str) -> NewEvent {
    let limits = EventLimits { max_data: 1 << 20 };
    NewEvent::new(parse_event(run, json, Timestamp::now(), limits).unwrap())
}

/// An event of this type.
pub fn of_type(run: &RunId, kind: &str) -> NewEvent {
    event(run, &format!(r#"{{"type":"{kind}"}}"#))
}

/// Events whose data are these numbers.
pub fn numbered(run: &RunId, numbers: RangeInclusive<u64>) -> Vec<NewEvent> {
    let json = |n| format!(r#"{{"type":"llm.stream","data":{n}}}"#);
    numbers.map(|n| event(run, &json(n))).collect()
}

/// An event whose publisher chose its `event_id`, and whose data is a number.
pub fn keyed(run: &RunId, key: &str, number: u64) -> NewEvent {
    event(run, &format!(r#"{{"type":"llm.stream","event_id":"{key}","data":{number}}}"#))
}

/// One writer of one run: each of its publishes has the next number.
pub struct Writer {
    store: Store,
    run: RunId,
    writer: u64,
    number: u64,
}

impl Writer {
    pub fn new(store: &Store, run: &RunId) -> Self {
        static WRITERS: AtomicU64 = AtomicU64::new(1);
        let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
        Self { store: Arc::clone(store), run: run.clone(), writer, number: 0 }
    }

    /// The next batch, not sent yet.
    pub fn batch(&mut self, publishes: Vec<Vec<NewEvent>>) -> RunAppend {
        let run = self.run.clone();
        self.batch_to(&run, publishes)
    }

    /// The next batch, to another run: a writer's publishes are numbered over all its runs.
    pub fn batch_to(&mut self, run: &RunId, publishes: Vec<Vec<NewEvent>>) -> RunAppend {
        let publishes = publishes.into_iter().map(|events| {
            self.number += 1;
            Publish::now(self.number, events.into(), false)
        });
        let publishes = publishes.collect();
        RunAppend { run: run.clone(), writer: self.writer, publishes }
    }

    /// Sends the next batch.
    pub async fn append(&mut self, publishes: Vec<Vec<NewEvent>>) -> Vec<PublishOutcome> {
        let batch = self.batch(publishes);
        let outcomes = send(&self.store, &batch).await;
        assert!(!outcomes.contains(&PublishOutcome::Already), "{batch:?} was never sent before");
        outcomes
    }

    /// Appends one publish, which must be stored.
    pub async fn publish(&mut self, events: Vec<NewEvent>) -> Vec<Placed> {
        let outcomes = self.append(vec![events]).await;
        match outcomes.as_slice() {
            [PublishOutcome::Stored(placed)] => placed.clone(),
            other => panic!("expected one publish to be stored, got {other:?}"),
        }
    }

    /// Publishes one event, which must be stored.
    pub async fn publish_one(&mut self, event: NewEvent) -> Placed {
        let placed = self.publish(vec![event]).await;
        assert_eq!(placed.len(), 1);
        placed[0]
    }

    /// Publishes events whose data are these numbers.
    pub async fn publish_numbers(&mut self, numbers: RangeInclusive<u64>) -> Vec<Placed> {
        let events = numbered(&self.run, numbers);
        self.publish(events).await
    }
}

/// Sends one batch, which must be answered.
pub async fn send(store: &Store, batch: &RunAppend) -> Vec<PublishOutcome> {
    let mut results = store.append(std::slice::from_ref(batch)).await;
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

/// Sends one batch of one publish, which must be stored.
pub async fn send_anew(store: &Store, batch: &RunAppend) {
    let outcomes = send(store, batch).await;
    assert!(matches!(outcomes.as_slice(), [PublishOutcome::Stored(_)]), "{outcomes:?}");
}

/// Sends one batch of one publish, which must be known to have been applied.
pub async fn send_again(store: &Store, batch: &RunAppend) {
    assert_eq!(send(store, batch).await, [PublishOutcome::Already]);
}
