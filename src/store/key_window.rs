//! The `event_id`s that publishers chose lately, and where their events are. Kept by the stores that have
//! no server behind them; ids the hub made are not in it (see `event::event_key`).

use crate::event::{EventId, Sequence};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Where the event with a known `event_id` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: EventId,
    pub(super) sequence: Sequence,
    pub(super) digest: u64,
}

type Key = (u64, Arc<str>);

/// The window itself.
#[derive(Debug)]
pub(super) struct KeyWindow {
    window_ms: u64,
    known: HashMap<Key, (u64, Found)>,
    /// By age, oldest first.
    ages: VecDeque<(u64, Key)>,
}

impl KeyWindow {
    pub(super) fn new(window: Duration) -> Self {
        let window_ms = super::as_ms(window);
        Self { window_ms, known: HashMap::new(), ages: VecDeque::new() }
    }

    /// The event that this id stands for, if it was stored within the window.
    pub(super) fn find(&self, run: u64, key: &str, now_ms: u64) -> Option<Found> {
        let (stored_ms, found) = self.known.get(&(run, Arc::from(key)))?;
        (now_ms.saturating_sub(*stored_ms) <= self.window_ms).then_some(*found)
    }

    /// From now on the id stands for this event.
    pub(super) fn insert(&mut self, run: u64, key: &str, stored_ms: u64, found: Found) {
        let key: Key = (run, key.into());
        self.ages.push_back((stored_ms, key.clone()));
        self.known.insert(key, (stored_ms, found));
    }

    /// Forgets what is older than the window, and calls `forgotten` with each.
    pub(super) fn forget_old(&mut self, now_ms: u64, mut forgotten: impl FnMut(u64, &str)) {
        while let Some((stored_ms, _)) = self.ages.front()
            && now_ms.saturating_sub(*stored_ms) > self.window_ms
        {
            let Some((stored_ms, key)) = self.ages.pop_front() else { return };
            // The id may have been stored anew since.
            if self.known.get(&key).is_some_and(|(at, _)| *at == stored_ms) {
                self.known.remove(&key);
                forgotten(key.0, &key.1);
            }
        }
    }

    /// Forgets all ids of a run, and calls `forgotten` with each.
    pub(super) fn forget_run(&mut self, run: u64, mut forgotten: impl FnMut(&str)) {
        self.known.retain(|key, _| {
            let keep = key.0 != run;
            if !keep {
                forgotten(&key.1);
            }
            keep
        });
        self.ages.retain(|(_, key)| key.0 != run);
    }
}
