//! Publishing: from checked events to the answer their publisher gets.

use super::Hub;
use crate::event::{EventId, EventKey, NewEvent, RunId, digest};
use crate::store::{Placed, PublishOutcome, RangeRequest, StoreError};
use crate::telemetry::metrics;
use std::sync::Arc;
use std::time::Instant;

/// What a publisher wants to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// That the store has acknowledged the write.
    #[default]
    Persisted,
    /// That the events are in the hub's memory.
    Accepted,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The place of each event, in order.
    Persisted(Vec<Placed>),
    /// The events are in memory.
    Accepted,
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The store did not acknowledge it in time. It may have been stored all the same; published again
    /// with the same `event_id`s it is stored once.
    #[error(
        "the store did not acknowledge the events in time; publish them again with the same event_id"
    )]
    Late,
    /// Too much waits for the store already.
    #[error("too many events wait for the store")]
    Full,
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Closing,
    /// The event at this index has an `event_id` that stands for other content.
    #[error("the event_id of the event at index {index} was used for other content")]
    KeyReused {
        /// Index within the publish.
        index: usize,
    },
    /// The store cannot serve this run.
    #[error(transparent)]
    Store(StoreError),
}

/// How far a hub-made `event_id`'s own time may lie behind its event's position: clocks differ.
const CLOCK_SLACK_MS: u64 = 60_000;
/// Events looked through at a time for a hub-made `event_id`.
const SEARCH_PAGE: usize = 1000;

impl Hub {
    /// Publishes events to a run, all or none of them.
    pub async fn publish(
        &self,
        run: &RunId,
        events: Vec<NewEvent>,
        ack: Ack,
    ) -> Result<Published, PublishError> {
        if self.is_closing() {
            return Err(PublishError::Closing);
        }
        let shard = self.core.writer(run);
        if ack == Ack::Accepted {
            return match shard.accept(run, events.into()) {
                Ok(()) => Ok(Published::Accepted),
                Err(super::writer::QueueFull) => Err(PublishError::Full),
            };
        }
        let began = Instant::now();
        let in_time =
            tokio::time::timeout(self.core.config.publish.timeout, self.persist(run, events));
        let placed = in_time.await.unwrap_or(Err(PublishError::Late))?;
        let duplicates = placed.iter().filter(|p| p.duplicate).count() as u64;
        metrics::published(placed.len() as u64, duplicates, began.elapsed());
        Ok(Published::Persisted(placed))
    }

    async fn persist(
        &self,
        run: &RunId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Placed>, PublishError> {
        let known = self.find_hub_made(run, &events).await?;
        let new: Arc<[NewEvent]> = match known.iter().any(Option::is_some) {
            false => events.into(),
            true => events
                .into_iter()
                .zip(&known)
                .filter(|(_, k)| k.is_none())
                .map(|(e, _)| e)
                .collect(),
        };
        let stored = match new.is_empty() {
            true => Vec::new(),
            false => {
                let shard = self.core.writer(run);
                let outcome = shard.publish(run, new).map_err(|_| PublishError::Full)?;
                match outcome.await {
                    Ok(Ok(PublishOutcome::Stored(placed))) => placed,
                    Ok(Ok(PublishOutcome::KeyReused { index })) => {
                        let behind =
                            known.iter().enumerate().filter(|(_, k)| k.is_none()).nth(index);
                        return Err(PublishError::KeyReused {
                            index: behind.map_or(index, |(i, _)| i),
                        });
                    }
                    Ok(Err(error)) if error.is_transient() => return Err(PublishError::Late),
                    Ok(Err(error)) => return Err(PublishError::Store(error)),
                    Err(_) => return Err(PublishError::Late),
                }
            }
        };
        let mut stored = stored.into_iter();
        // A publish that is stored has a place for each of its events.
        Ok(known.into_iter().filter_map(|known| known.or_else(|| stored.next())).collect())
    }

    /// The places of events whose `event_id` a hub made: such ids are in no index, the run itself tells.
    async fn find_hub_made(
        &self,
        run: &RunId,
        events: &[NewEvent],
    ) -> Result<Vec<Option<Placed>>, PublishError> {
        let mut known = vec![None; events.len()];
        let window_ms =
            u64::try_from(self.core.config.publish.dedup_window.as_millis()).unwrap_or(u64::MAX);
        let now_ms = crate::event::Timestamp::now().as_ms();
        for (index, new) in events.iter().enumerate().filter(|(_, new)| new.key_is_given) {
            let Some(made_ms) = new.key.hub_made_ms() else { continue };
            if now_ms.saturating_sub(made_ms) > window_ms {
                continue;
            }
            let Some((placed, digest)) = self.find_key(run, &new.key, made_ms).await? else {
                continue;
            };
            if digest != new.digest {
                return Err(PublishError::KeyReused { index });
            }
            known[index] = Some(placed);
        }
        Ok(known)
    }

    async fn find_key(
        &self,
        run: &RunId,
        key: &EventKey,
        made_ms: u64,
    ) -> Result<Option<(Placed, u64)>, PublishError> {
        let mut from = EventId::new(made_ms.saturating_sub(CLOCK_SLACK_MS), 0);
        loop {
            let request = RangeRequest::after(from, SEARCH_PAGE, 8 << 20);
            let page =
                self.core.store.range(run, request).await.map_err(|e| match e.is_transient() {
                    true => PublishError::Late,
                    false => PublishError::Store(e),
                })?;
            let found = page.events.iter().find(|e| e.event.event_id.as_ref() == Some(key));
            if let Some(stored) = found
                && let Some(sequence) = stored.sequence
            {
                let placed = Placed { id: stored.id, sequence, duplicate: true };
                return Ok(Some((placed, digest::of(&stored.event))));
            }
            match page.events.last() {
                Some(last) if page.more => from = last.id,
                _ => return Ok(None),
            }
        }
    }
}
