//! Turns the items of a run's tail into encoded batches for its RunActor, and notices holes between them.

use super::gap::Gap;
use super::{Moved, RunActor};
use crate::event::{EncodedBatch, EventId, ReadRules, RunId, StoredEvent};
use crate::hub::registry::{At, Reached, Roster};
use crate::hub::{Core, first};
use crate::store::{LogStore, RangeRequest, StoreError, TailItem};
use actix::Addr;
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait before a question is asked again that the store did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Events without numbers may stand behind a hole where so many come at a time, or after such a silence: between others
/// nobody trims a log that is worth reading.
const MANY: usize = 4;
const SILENCE: Duration = Duration::from_secs(1);

pub(super) struct Pump {
    store: Arc<dyn LogStore>,
    rules: ReadRules,
    roster: Arc<Roster>,
    run: RunId,
    position: EventId,
    at: At,
    /// The event there was gone when the first reader had just come: whoever came was told what is missing before it.
    is_told: bool,
    /// When the tail last brought events.
    heard: Instant,
}

/// What is missing before events that do not go on from where the last ones ended.
enum Hole {
    /// The oldest event kept lies behind our position.
    Gap(Gap),
    /// What was read last is of another life of the run. Either the store lost it, and has gone on since from an earlier
    /// place: numbers come again, and the event at our position is gone though it was not trimmed. Or another hub deleted
    /// the run, then, and it has begun anew since.
    AnotherLife { deleted_at: Option<u64> },
}

impl Pump {
    /// A pump for these readers of a run, who have got as far as `reached`.
    pub(super) fn new(core: &Core, run: &RunId, roster: Arc<Roster>, reached: Reached) -> Self {
        let Reached { position, at } = reached;
        Self {
            store: Arc::clone(&core.store),
            rules: core.rules.clone(),
            roster,
            run: run.clone(),
            position,
            at,
            is_told: false,
            heard: Instant::now(),
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
            let readers = self.roster.count();
            first::let_publishers_hear(readers).await;
            let moved = match item {
                TailItem::Events(events) => match self.hole_before(&events).await {
                    Some(Hole::AnotherLife { deleted_at }) => {
                        tail = self.store.tail(&self.run, EventId::START);
                        self.reset(deleted_at)
                    }
                    Some(Hole::Gap(gap)) => self.batch(events, Some(gap)),
                    None => self.batch(events, None),
                },
                TailItem::Reset => {
                    let deleted_at = self.ask(|| self.deleted_at()).await;
                    self.reset(deleted_at)
                }
            };
            // Waiting for the actor is what keeps the tail from running ahead of it.
            if actor.send(moved).await.is_err() {
                return;
            }
        }
    }

    /// Finds the number of the event at the position, so that a hole right behind it is noticed; also by a successor.
    async fn look_up_sequence(&mut self) {
        if self.at != At::Unknown || self.position == EventId::START {
            return;
        }
        let mut at_once = true;
        loop {
            match self.store.range(&self.run, RangeRequest::only(self.position)).await {
                Ok(page) => {
                    let event = page.events.first();
                    self.at = At::of(event.and_then(|event| event.sequence));
                    self.is_told = event.is_none() && at_once;
                    let (position, at) = (self.position, self.at);
                    let reached = &mut self.roster.lock().reached;
                    if *reached == (Reached { position, at: At::Unknown }) {
                        reached.at = at;
                    }
                    return;
                }
                Err(error) if error.is_transient() => {
                    at_once = false;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                // The tail says when there is something to read again.
                Err(_) => return,
            }
        }
    }

    fn reset(&mut self, deleted_at: Option<u64>) -> Moved {
        (self.position, self.at, self.is_told) = (EventId::START, At::Unknown, false);
        Moved::Reset { deleted_at }
    }

    /// Asks the store until it answers.
    async fn ask<T, F>(&self, question: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match question().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    fn batch(&mut self, events: Vec<StoredEvent>, gap: Option<Gap>) -> Moved {
        if let Some(event) = events.last() {
            (self.at, self.is_told) = (At::of(event.sequence), false);
        }
        let batch = EncodedBatch::encode(self.position, events, &self.rules);
        if batch.changes_status() {
            self.settle();
        }
        self.position = batch.last;
        Moved::Events { batch: Arc::new(batch), gap, at: self.at }
    }

    /// Whether the numbers do not go on as they should. Foreign writers number as they like, or not at all, so this
    /// alone says nothing.
    fn is_suspicious(&self, first: &StoredEvent, count: usize, silence: Duration) -> bool {
        match (self.at, first.sequence) {
            (At::Numbered(at), Some(next)) => at.missing_before(next) != Some(0),
            _ => !self.is_told && (count >= MANY || silence >= SILENCE),
        }
    }

    /// What is missing before these events, if anything is.
    async fn hole_before(&mut self, events: &[StoredEvent]) -> Option<Hole> {
        let heard = std::mem::replace(&mut self.heard, Instant::now());
        let (count, silence) = (events.len(), self.heard - heard);
        let first = events.first().filter(|first| self.is_suspicious(first, count, silence))?;
        self.ask(|| self.look_for_hole(first)).await
    }

    async fn look_for_hole(&self, first: &StoredEvent) -> Result<Option<Hole>, StoreError> {
        if self.position == EventId::START {
            return Ok(None);
        }
        let page = self.store.range(&self.run, RangeRequest::oldest()).await?;
        let Some(oldest) = page.events.first() else { return Ok(None) };
        if oldest.id > self.position {
            let oldest = oldest.id.min(first.id);
            let at = self.at.sequence();
            let gap = Gap::between(self.position, at, oldest, first.sequence);
            if gap.missed.is_none()
                && let deleted_at @ Some(_) = self.deleted_at().await?
            {
                return Ok(Some(Hole::AnotherLife { deleted_at }));
            }
            return Ok(Some(Hole::Gap(gap)));
        }
        let begins_anew =
            matches!((self.at, first.sequence), (At::Numbered(at), Some(next)) if next <= at);
        if !begins_anew {
            return Ok(None);
        }
        let there = self.store.range(&self.run, RangeRequest::only(self.position)).await?;
        Ok(there.events.is_empty().then_some(Hole::AnotherLife { deleted_at: None }))
    }

    /// When another hub deleted the run that our position is of.
    async fn deleted_at(&self) -> Result<Option<u64>, StoreError> {
        let deleted_at = self.store.deleted_at(&self.run).await?;
        // What was stored since is another life of the run.
        Ok(deleted_at.filter(|at| self.position.ms <= *at))
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
