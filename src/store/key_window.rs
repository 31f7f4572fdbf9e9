//! The `event_id`s that publishers chose lately, and where their events are. Kept by the stores that have
//! no server behind them; ids the hub made are not in it (see `event::event_key`).

use super::Publish;
use crate::event::{EventId, Sequence};
use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Where the event with a known `event_id` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: EventId,
    pub(super) sequence: Sequence,
    pub(super) digest: u64,
}

/// What a publish may repeat.
#[derive(Debug)]
pub(super) enum Around {
    /// One that was answered may have waited for long: what was published within the window before or after it. What
    /// came later may have been stored already.
    Published(RangeInclusive<u64>),
    /// Any other: what was stored from then on, whose publisher may have heard of it just now.
    StoredSince(u64),
}

/// By the number of the run, which no other run ever gets: those of a run that is gone are found no more, and go with
/// their time.
type Key = (u64, Arc<str>);

/// The most ids forgotten at a time: who appends waits for that.
const AT_A_TIME: usize = 10_000;
/// How much longer than the window ids are remembered: what was published in time may have waited for the disk.
const LONGER_MS: u64 = 60_000;

/// The window itself.
#[derive(Debug)]
pub(super) struct KeyWindow {
    window_ms: u64,
    /// With when each was published.
    known: HashMap<Key, (u64, Found)>,
    /// In the order in which they were stored.
    ages: VecDeque<(EventId, Key)>,
}

impl KeyWindow {
    pub(super) fn new(window: Duration) -> Self {
        let window_ms = super::as_ms(window);
        Self { window_ms, known: HashMap::new(), ages: VecDeque::new() }
    }

    /// What an event of this publish may be a repetition of.
    pub(super) fn around(&self, publish: &Publish, now_ms: u64) -> Around {
        let published_ms = publish.published_ms;
        let oldest_ms = published_ms.min(now_ms).saturating_sub(self.window_ms);
        let newest_ms = published_ms.saturating_add(self.window_ms);
        match publish.answered {
            true => Around::Published(oldest_ms..=newest_ms),
            false => Around::StoredSince(oldest_ms),
        }
    }

    /// The event that this id stands for, if it is one of those.
    pub(super) fn find(&self, run: u64, key: &str, around: &Around) -> Option<Found> {
        let (published_ms, found) = self.known.get(&(run, Arc::from(key)))?;
        let is_it = match around {
            Around::Published(when) => when.contains(published_ms),
            Around::StoredSince(oldest_ms) => found.id.ms >= *oldest_ms,
        };
        is_it.then_some(*found)
    }

    /// From now on the id stands for this event, unless it does for one that was published later: whoever repeats one
    /// repeats that. True if it does.
    pub(super) fn insert(&mut self, run: u64, key: &str, published_ms: u64, found: Found) -> bool {
        let key: Key = (run, key.into());
        if self.known.get(&key).is_some_and(|(known_ms, _)| *known_ms > published_ms) {
            return false;
        }
        self.ages.push_back((found.id, key.clone()));
        self.known.insert(key, (published_ms, found));
        true
    }

    /// Forgets what was stored much longer ago than the window, some of it at a time, and calls `forgotten` with each.
    pub(super) fn forget_old(&mut self, now_ms: u64, mut forgotten: impl FnMut(u64, &str)) {
        for _ in 0..AT_A_TIME {
            let is_old = |(stored, _): &(EventId, Key)| {
                now_ms.saturating_sub(stored.ms) > self.window_ms + LONGER_MS
            };
            if !self.ages.front().is_some_and(is_old) {
                return;
            }
            let Some((stored, key)) = self.ages.pop_front() else { return };
            // The id may have been stored anew since.
            if self.known.get(&key).is_some_and(|(_, found)| found.id == stored) {
                self.known.remove(&key);
                forgotten(key.0, &key.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten_some_of_it_at_a_time() {
        let mut keys = KeyWindow::new(Duration::from_secs(10));
        let found = |ms| Found { id: EventId::new(ms, 0), sequence: Sequence::FIRST, digest: 7 };
        assert!((0..25_000).all(|n| keys.insert(1, &format!("k{n}"), n / 5, found(n / 5))));
        assert!(keys.insert(1, "k0", 20_000, found(20_000)));
        let forget = |keys: &mut KeyWindow, now_ms| {
            let mut count = 0;
            keys.forget_old(now_ms, |_, _| count += 1);
            count
        };
        // The first one was stored anew.
        assert_eq!(forget(&mut keys, 76_000), 9_999);
        assert_eq!((forget(&mut keys, 76_000), forget(&mut keys, 76_000)), (10_000, 5_000));
        assert_eq!(keys.find(1, "k0", &Around::StoredSince(20_000)), Some(found(20_000)));
        assert_eq!(keys.find(1, "k0", &Around::StoredSince(20_001)), None);
        assert_eq!((keys.find(2, "k0", &Around::StoredSince(0)), keys.known.len()), (None, 1));
    }
}
