//! Turns the items of a run's tail into encoded batches for its RunActor, and notices holes between them.

use super::gap::Gap;
use super::{Moved, RunActor};
use crate::event::{EncodedBatch, EventId, ReadRules, RunId, Sequence, StoredEvent};
use crate::hub::registry::Roster;
use crate::hub::{Core, first};
use crate::store::{LogStore, RangeRequest, TailItem};
use actix::Addr;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before a question is asked again that the store did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Pump {
    store: Arc<dyn LogStore>,
    rules: ReadRules,
    roster: Arc<Roster>,
    run: RunId,
    position: EventId,
    sequence: Option<Sequence>,
}

impl Pump {
    /// A pump for these readers of a run, who have got as far as `reached`.
    pub(super) fn new(
        core: &Core,
        run: &RunId,
        roster: Arc<Roster>,
        reached: (EventId, Option<Sequence>),
    ) -> Self {
        let (position, sequence) = reached;
        Self {
            store: Arc::clone(&core.store),
            rules: core.rules.clone(),
            roster,
            run: run.clone(),
            position,
            sequence,
        }
    }

    /// Pumps until the actor is gone.
    pub(super) async fn run(mut self, actor: Addr<RunActor>) {
        self.look_up_sequence().await;
        let mut tail = self.store.tail(&self.run, self.position);
        loop {
            let Some(item) = tail.next().await else {
                // Whoever read it is gone, with its thread.
                tokio::time::sleep(RETRY_AFTER).await;
                tail = self.store.tail(&self.run, self.position);
                continue;
            };
            let readers = self.roster.lock().subscribers.len();
            first::let_publishers_hear(readers).await;
            let moved = match item {
                TailItem::Events(events) if self.was_rolled_back(&events).await => {
                    tail = self.store.tail(&self.run, EventId::START);
                    self.reset()
                }
                TailItem::Events(events) => self.batch(events).await,
                TailItem::Reset => self.reset(),
            };
            // Waiting for the actor is what keeps the tail from running ahead of it.
            if actor.send(moved).await.is_err() {
                return;
            }
        }
    }

    /// Finds the number of the event at the position, so that a hole right behind it is noticed.
    async fn look_up_sequence(&mut self) {
        if self.sequence.is_some() || self.position == EventId::START {
            return;
        }
        let request = RangeRequest::only(self.position);
        if let Ok(page) = self.store.range(&self.run, request).await {
            self.sequence = page.events.first().and_then(|event| event.sequence);
        }
    }

    fn reset(&mut self) -> Moved {
        (self.position, self.sequence) = (EventId::START, None);
        Moved::Reset
    }

    /// Whether the store lost what was read last, and has gone on since from an earlier place: numbers come again,
    /// and the event at the position is gone though it was not trimmed.
    async fn was_rolled_back(&self, events: &[StoredEvent]) -> bool {
        let first = events.first().and_then(|first| first.sequence);
        if self.sequence.zip(first).is_none_or(|(at, next)| next > at) {
            return false;
        }
        loop {
            let there = self.store.range(&self.run, RangeRequest::only(self.position)).await;
            let oldest = self.store.range(&self.run, RangeRequest::oldest()).await;
            if let (Ok(there), Ok(oldest)) = (there, oldest) {
                let reaches_back = oldest.events.first().is_some_and(|e| e.id < self.position);
                return there.events.is_empty() && reaches_back;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn batch(&mut self, events: Vec<StoredEvent>) -> Moved {
        let gap = match events.first() {
            Some(first) if self.is_suspicious(first) => self.find_gap(first).await,
            _ => None,
        };
        let last = events.last().and_then(|e| e.sequence);
        let batch = EncodedBatch::encode(self.position, events, &self.rules);
        if batch.changes_status() {
            self.settle();
        }
        (self.position, self.sequence) = (batch.last, last);
        Moved::Events { batch: Arc::new(batch), gap, last }
    }

    /// Whether the numbers do not go on as they should. Foreign writers number as they like, so this
    /// alone says nothing.
    fn is_suspicious(&self, first: &StoredEvent) -> bool {
        match (self.sequence, first.sequence) {
            (Some(at), Some(next)) => at.missing_before(next) != Some(0),
            _ => false,
        }
    }

    /// The hole before this event, if the oldest event kept lies behind our position.
    async fn find_gap(&self, first: &StoredEvent) -> Option<Gap> {
        loop {
            match self.store.range(&self.run, RangeRequest::oldest()).await {
                Ok(page) => {
                    let oldest = page.events.first()?;
                    let lost = oldest.id > self.position && self.position != EventId::START;
                    return lost.then(|| {
                        Gap::between(self.position, self.sequence, oldest.id, first.sequence)
                    });
                }
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Lets the store count in what a foreign program may have written: the end of the run, say.
    fn settle(&self) {
        let (store, run) = (Arc::clone(&self.store), self.run.clone());
        actix::spawn(async move {
            if let Err(e) = store.run(&run).await {
                log::debug!("could not settle the status of run {run}: {e}");
            }
        });
    }
}
