//! Lookouts, as the roster sees them: connections that wait at one stream each, and tell of what comes there.
//!
//! A stream that others keep writing to gets one, and is the reader's again as soon as anything else is known or
//! feared of it. Each lookout is sent out under a number of its own, by which what one brings that was called back
//! is told.

use super::{Roster, Wanted};
use crate::event::StoredEvent;
use std::time::Duration;
use tokio::time::Instant;

/// A stream is hot when others' events were found in it twice, no longer one after the other than this.
const SOON: Duration = Duration::from_secs(2);
/// How long a stream in which nothing happens keeps a lookout that nobody else wants.
const BORING: Duration = Duration::from_secs(30);

/// How often others write to a stream.
#[derive(Default)]
pub(super) struct Heat {
    last: Option<Instant>,
    /// That was soon after the time before.
    again: bool,
}

impl Heat {
    /// Others' events were found. True if the stream is hot by now.
    pub(super) fn found(&mut self, now: Instant) -> bool {
        self.again = self.is_within(SOON, now);
        self.last = Some(now);
        self.again
    }

    /// A lookout is worth its connection.
    pub(super) fn is_hot(&self, now: Instant) -> bool {
        self.again && self.is_within(SOON, now)
    }

    /// A lookout is not worth its connection, even if nobody else wants it.
    pub(super) fn is_cold(&self, now: Instant) -> bool {
        !self.is_within(BORING, now)
    }

    fn is_within(&self, time: Duration, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < time)
    }
}

/// A lookout that was sent to a stream.
#[derive(Debug)]
pub(in crate::store::redis) struct Lookout {
    /// It tells this one from those that were sent there before.
    number: u64,
    /// Whom in the roster it is for.
    follower: u64,
    /// Where it stands.
    pub(in crate::store::redis) at: Wanted,
}

impl Roster {
    /// Others' events were found in a stream when it was read.
    pub(in crate::store::redis) fn found(&mut self, name: &str, now: Instant) {
        for number in self.followers(name) {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            if entry.heat.found(now) && !entry.wants_lookout && entry.lookout.is_none() {
                entry.wants_lookout = true;
                self.wanting.push_back(number);
            }
        }
    }

    /// Whether a stream is worth a lookout that has none.
    pub(in crate::store::redis) fn wants_lookout(&self) -> bool {
        !self.wanting.is_empty()
    }

    /// Sends a lookout to the stream that has wanted one for longest.
    pub(in crate::store::redis) fn send_lookout(&mut self, now: Instant) -> Option<Lookout> {
        while let Some(follower) = self.wanting.pop_front() {
            let Some(entry) = self.entries.get_mut(&follower) else { continue };
            entry.wants_lookout = false;
            let is_served = entry.appends > 0 || entry.waits_for_room || entry.broken;
            if is_served || entry.sink.capacity() < 2 || !entry.heat.is_hot(now) {
                continue;
            }
            self.next += 1;
            entry.lookout = Some(self.next);
            let (run, key, after) = (entry.run.clone(), entry.key.clone(), entry.position);
            return Some(Lookout { number: self.next, follower, at: Wanted { run, key, after } });
        }
        None
    }

    /// What a lookout has seen behind where it stood, or that it has seen nothing for a while. True if it is to
    /// stay; it stands behind these events then.
    pub(in crate::store::redis) fn seen(
        &mut self,
        lookout: &mut Lookout,
        events: Vec<StoredEvent>,
        now: Instant,
    ) -> bool {
        let others_want = self.wants_lookout();
        let Some(entry) = self.entries.get_mut(&lookout.follower) else { return false };
        if entry.lookout != Some(lookout.number) {
            return false;
        }
        if let Some(last) = events.last() {
            lookout.at.after = last.id;
            entry.heat.found(now);
            entry.in_a_row = 0;
            // The reader may have read some of them, before the lookout was there.
            let known = events.partition_point(|e| e.id <= entry.position);
            entry.hand_over(events.into_iter().skip(known).collect());
            entry.waits_for_room |= entry.sink.capacity() < 2;
        } else {
            entry.doubtful = true;
        }
        let is_bored = !entry.heat.is_hot(now) && (others_want || entry.heat.is_cold(now));
        if entry.waits_for_room || entry.sink.is_closed() || is_bored {
            self.call_back(lookout.follower);
            return false;
        }
        true
    }

    /// A lookout is back, called or not.
    pub(in crate::store::redis) fn lookout_is_back(&mut self, lookout: &Lookout) {
        let entry = self.entries.get(&lookout.follower);
        if entry.is_some_and(|entry| entry.lookout == Some(lookout.number)) {
            self.call_back(lookout.follower);
        }
    }

    /// From now on the stream is read.
    pub(super) fn call_back(&mut self, follower: u64) {
        let entry = self.entries.get_mut(&follower);
        if entry.is_some_and(|entry| entry.lookout.take().is_some()) {
            self.queue(follower);
        }
    }
}
