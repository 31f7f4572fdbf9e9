//! Publishing: from checked events to the answer their publisher gets.

use super::Hub;
use crate::event::{EventId, EventKey, NewEvent, RunId, digest};
use crate::store::{Placed, PublishOutcome, RangeRequest, StoreError};
use crate::telemetry::metrics;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// How long a publish that waits for nothing waits for the look-up of an `event_id` that a hub made.
const ACCEPT_LOOK: Duration = Duration::from_millis(200);
/// Events looked through at a time for a hub-made `event_id`.
const SEARCH_PAGE: usize = 1000;
const SEARCH_BYTES: usize = 8 << 20;

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
        if ack == Ack::Accepted {
            return self.accept(run, events).await;
        }
        let began = Instant::now();
        let in_time =
            tokio::time::timeout(self.core.config.publish.timeout, self.persist(run, events));
        let placed = in_time.await.unwrap_or(Err(PublishError::Late))?;
        let duplicates = placed.iter().filter(|p| p.duplicate).count() as u64;
        metrics::published(placed.len() as u64, duplicates, began.elapsed());
        Ok(Published::Persisted(placed))
    }

    /// Takes events into memory. Their publisher knows their ids before the store does, so the store is to
    /// index them all, those the hub made too: they may come back at once.
    async fn accept(
        &self,
        run: &RunId,
        mut events: Vec<NewEvent>,
    ) -> Result<Published, PublishError> {
        let found = self.find_hub_made(run, &events);
        // A store that is away holds up no publish of this kind.
        let known = match tokio::time::timeout(ACCEPT_LOOK, found).await {
            Ok(Err(reused @ PublishError::KeyReused { .. })) => return Err(reused),
            Ok(Ok(known)) => known,
            Ok(Err(_)) | Err(_) => vec![None; events.len()],
        };
        let mut known = known.into_iter();
        events.retain(|_| known.next().flatten().is_none());
        for new in &mut events {
            new.key_is_given = true;
        }
        if !events.is_empty() {
            self.core.writer(run).accept(run, events.into()).map_err(|_| PublishError::Full)?;
        }
        Ok(Published::Accepted)
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
        let oldest_ms = crate::event::Timestamp::now().as_ms().saturating_sub(window_ms);
        let mut wanted: HashMap<&EventKey, Vec<usize>> = HashMap::new();
        let mut from_ms = u64::MAX;
        for (index, new) in events.iter().enumerate().filter(|(_, new)| new.key_is_given) {
            if let Some(made_ms) = new.key.hub_made_ms().filter(|ms| *ms >= oldest_ms) {
                from_ms = from_ms.min(made_ms);
                wanted.entry(&new.key).or_default().push(index);
            }
        }
        // One look through the run for all of them.
        let mut from = EventId::new(from_ms.saturating_sub(CLOCK_SLACK_MS), 0);
        while !wanted.is_empty() {
            let request = RangeRequest::after(from, SEARCH_PAGE, SEARCH_BYTES);
            let page =
                self.core.store.range(run, request).await.map_err(|e| match e.is_transient() {
                    true => PublishError::Late,
                    false => PublishError::Store(e),
                })?;
            for stored in &page.events {
                let (Some(key), Some(sequence)) = (&stored.event.event_id, stored.sequence) else {
                    continue;
                };
                let digest = digest::of(&stored.event);
                for index in wanted.remove(key).unwrap_or_default() {
                    if events[index].digest != digest {
                        return Err(PublishError::KeyReused { index });
                    }
                    known[index] = Some(Placed { id: stored.id, sequence, duplicate: true });
                }
            }
            match page.events.last() {
                Some(last) if page.more => from = last.id,
                _ => break,
            }
        }
        Ok(known)
    }
}
