//! Publishing: from checked events to the answer their publisher gets.

use super::Hub;
use super::mode::Mode;
use super::search;
use super::supervisor::StoreSeen;
use super::writer::{NotTaken, Told};
use crate::event::{NewEvent, RunId, Timestamp};
use crate::spool::SpoolError;
use crate::store::{Placed, StoreError};
use crate::telemetry::metrics;
use std::time::{Duration, Instant};
use tokio::time::{timeout, timeout_at};

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
    /// The events are on the hub's disk; they reach the store later, in order, once.
    Spooled,
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
    /// Too much waits for the store already, in memory or in the spool. Nothing was stored.
    #[error("too many events wait for the store; publish again later")]
    Full,
    /// The store does not take it, and the spool cannot: its disk fails. Nothing was stored.
    #[error("the store does not take the events, and {0}")]
    NotSpooled(SpoolError),
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Closing,
    /// The event at this index has an `event_id` that stands for other content.
    #[error("the event_id of the event at index {index} was used for other content")]
    KeyReused {
        /// Index within the publish.
        index: usize,
    },
    /// The event at this index cannot be published.
    #[error("the event at index {index} cannot be published: {reason}")]
    Invalid {
        /// Index within the publish.
        index: usize,
        /// Why not.
        reason: String,
    },
    /// The store cannot serve this run.
    #[error(transparent)]
    Store(StoreError),
}

impl From<NotTaken> for PublishError {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::Full => Self::Full,
            NotTaken::Broken(error) => Self::Store(error),
        }
    }
}

/// How long a publish that waits for nothing waits for the look-up of an `event_id` that a hub made.
const ACCEPT_LOOK: Duration = Duration::from_millis(200);

/// What a look for the `event_id`s of a publish found.
enum Looked {
    /// The place of each event that is in the run already.
    Found(Vec<Option<Placed>>),
    /// The store could not be asked: the run is to be searched before these events are stored.
    Unasked,
}

impl Hub {
    /// Publishes events to a run, all or none of them. Takes no longer than `publish.timeout` and what the
    /// spool's disk takes to sync what has gathered, whatever the store does.
    pub async fn publish(
        &self,
        run: &RunId,
        events: Vec<NewEvent>,
        ack: Ack,
    ) -> Result<Published, PublishError> {
        if self.is_closing() {
            return Err(PublishError::Closing);
        }
        match ack {
            Ack::Accepted => self.accept(run, events).await,
            Ack::Persisted => self.persist(run, events).await,
        }
    }

    /// Takes events into memory. Their publisher knows their ids before the store does, so the store is to
    /// index them all, those the hub made too: they may come back at once.
    async fn accept(
        &self,
        run: &RunId,
        mut events: Vec<NewEvent>,
    ) -> Result<Published, PublishError> {
        let unasked = match self.look(run, &mut events, Instant::now() + ACCEPT_LOOK).await? {
            Looked::Found(known) => {
                let mut known = known.into_iter();
                events.retain(|_| known.next().flatten().is_none());
                false
            }
            Looked::Unasked => true,
        };
        for new in &mut events {
            new.key_is_given = true;
        }
        if !events.is_empty() {
            let spool = unasked || self.core.mode.is(Mode::Degraded);
            let accepted = self.core.writer(run).accept(run, events.into(), spool);
            accepted?;
        }
        Ok(Published::Accepted)
    }

    async fn persist(
        &self,
        run: &RunId,
        mut events: Vec<NewEvent>,
    ) -> Result<Published, PublishError> {
        let began = Instant::now();
        let deadline = began + self.core.config.publish.timeout;
        let (known, unasked) = match self.look(run, &mut events, deadline).await? {
            Looked::Found(known) => (known, false),
            Looked::Unasked => (vec![None; events.len()], true),
        };
        // Where the n-th of those that are new stands among all.
        let indexes: Vec<usize> = (0..events.len()).filter(|i| known[*i].is_none()).collect();
        let mut stored = Vec::new();
        if !indexes.is_empty() {
            let mut is_new = known.iter().map(Option::is_none);
            events.retain(|_| is_new.next().unwrap_or(true));
            // An event that must be searched for is not held up by that: its publisher is answered before.
            let spool = unasked || self.core.mode.is(Mode::Degraded);
            stored = match self.write(run, events, spool, deadline).await? {
                Told::Stored(placed) => placed,
                Told::Spooled => {
                    return Ok(Published::Spooled);
                }
                Told::KeyReused { index } => {
                    let index = indexes.get(index).copied().unwrap_or(index);
                    return Err(PublishError::KeyReused { index });
                }
                Told::Late => return Err(PublishError::Late),
                Told::NoRoom(SpoolError::Full) => return Err(PublishError::Full),
                Told::NoRoom(failed) => return Err(PublishError::NotSpooled(failed)),
                Told::Broken(error) => return Err(PublishError::Store(error)),
            };
        }
        let mut stored = stored.into_iter();
        // A publish that is stored has a place for each of its events.
        let placed: Vec<Placed> =
            known.into_iter().filter_map(|known| known.or_else(|| stored.next())).collect();
        let duplicates = placed.iter().filter(|p| p.duplicate).count() as u64;
        metrics::published(placed.len() as u64, duplicates, began.elapsed());
        Ok(Published::Persisted(placed))
    }

    /// Gives a publish to the run's writer and waits for its outcome; from the deadline on, for the spool.
    async fn write(
        &self,
        run: &RunId,
        events: Vec<NewEvent>,
        spool: bool,
        deadline: Instant,
    ) -> Result<Told, PublishError> {
        let shard = self.core.writer(run);
        let mut outcome = shard.publish(run, events.into(), spool)?;
        if let Ok(told) = timeout_at(deadline.into(), &mut outcome).await {
            return told.map_err(|_| PublishError::Late);
        }
        if !shard.is_run_behind(run) {
            // What is spooled already waits for its disk, not for the store.
            let reason = "a publish timed out".to_owned();
            self.core.tell_supervisor(StoreSeen(Err(StoreError::NoAnswer { reason })));
        }
        shard.spill_run(run);
        outcome.await.map_err(|_| PublishError::Late)
    }

    /// Looks for the events whose `event_id` a hub made: such ids are in no index, the run itself tells.
    async fn look(
        &self,
        run: &RunId,
        events: &mut [NewEvent],
        deadline: Instant,
    ) -> Result<Looked, PublishError> {
        let window = self.core.config.publish.dedup_window;
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = Timestamp::now().as_ms().saturating_sub(window_ms);
        let wanted = |new: &NewEvent| {
            new.key_is_given && new.key.hub_made_ms().is_some_and(|made_ms| made_ms >= oldest_ms)
        };
        if !events.iter().any(wanted) {
            return Ok(Looked::Found(vec![None; events.len()]));
        }
        // While something of the run is spooled the run does not tell all.
        let shard = self.core.writer(run);
        let asked = match self.core.mode.is(Mode::Degraded) || shard.is_run_behind(run) {
            true => None,
            false => {
                let found = search::find(&*self.core.store, run, events, |new, _| wanted(new));
                timeout(deadline.saturating_duration_since(Instant::now()), found).await.ok()
            }
        };
        match asked {
            Some(Ok(found)) => {
                if let Some(index) =
                    found.iter().position(|place| place.is_some_and(|place| place.reused))
                {
                    return Err(PublishError::KeyReused { index });
                }
                Ok(Looked::Found(found))
            }
            Some(Err(error)) if !error.is_transient() => Err(PublishError::Store(error)),
            Some(Err(_)) | None => {
                for new in events.iter_mut().filter(|new| wanted(new)) {
                    new.search_first = true;
                }
                Ok(Looked::Unasked)
            }
        }
    }
}
