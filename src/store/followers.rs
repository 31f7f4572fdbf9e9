//! Who follows which run of a store in this process, and what each of them is told of appends.
//!
//! An append is handed to those who follow its run, with the run's last id before it. Whoever stands right there
//! has what comes next without reading it; anybody else reads the log. What is not told here thus costs a read,
//! never an event.

use super::RunAppend;
use super::appended::Appended;
use crate::event::{EventId, RunId, StoredEvent};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Appends that may wait for a follower.
const ROOM: usize = 8;
/// From here on appends are not joined to what is taken together.
const ENOUGH_EVENTS: usize = 256;
const ENOUGH_BYTES: usize = 1 << 20;

/// All followers of a store.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<HashMap<RunId, Vec<Arc<Inbox>>>>);

impl Followers {
    /// Takes a follower of this run in, until what this answers is dropped.
    pub(super) fn join(self: &Arc<Self>, run: &RunId) -> Seat {
        let inbox = Arc::new(Inbox::default());
        self.0.lock().entry(run.clone()).or_default().push(Arc::clone(&inbox));
        Seat { followers: Arc::clone(self), run: run.clone(), inbox }
    }

    /// Tells the followers of these runs what was appended to them.
    pub(super) fn tell_all(&self, appends: &[RunAppend], done: &[Appended]) {
        let all = self.0.lock();
        for (append, appended) in appends.iter().zip(done) {
            let inboxes = all.get(&append.run).map_or(&[][..], Vec::as_slice);
            let Some((last, others)) = inboxes.split_last() else { continue };
            // None if all was stored by an earlier attempt, of which nobody may have been told.
            let events = appended.events(append);
            // There is hardly ever more than one, who gets them as they are.
            others.iter().for_each(|inbox| inbox.put(appended.previous, events.clone()));
            last.put(appended.previous, events);
        }
    }
}

/// A follower's place among all.
#[derive(Debug)]
pub(super) struct Seat {
    followers: Arc<Followers>,
    run: RunId,
    inbox: Arc<Inbox>,
}

impl Seat {
    /// What there is for one who stands at this position.
    pub(super) fn take(&self, position: EventId) -> News {
        self.inbox.waiting.lock().take(position)
    }

    /// Waits until something was appended since this was last waited for.
    pub(super) async fn told(&self) {
        self.inbox.told.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.followers.0.lock();
        if let Some(inboxes) = all.get_mut(&self.run) {
            inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
            if inboxes.is_empty() {
                all.remove(&self.run);
            }
        }
    }
}

/// What a follower learns.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// Nothing.
    Nothing,
    /// These events come right behind where it stands.
    Events(Vec<StoredEvent>),
    /// Something was appended that it has to read.
    Read,
}

/// What one follower has not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    told: Notify,
}

impl Inbox {
    fn put(&self, previous: EventId, events: Vec<StoredEvent>) {
        self.waiting.lock().put(previous, events);
        self.told.notify_one();
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Appends, each with the last id before it.
    appends: VecDeque<(EventId, Vec<StoredEvent>)>,
    /// There was no room for one, or one was left out because it lay ahead.
    missed: bool,
}

impl Waiting {
    fn put(&mut self, previous: EventId, events: Vec<StoredEvent>) {
        if self.appends.len() < ROOM {
            self.appends.push_back((previous, events));
        } else {
            self.missed = true;
        }
    }

    fn take(&mut self, mut position: EventId) -> News {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((previous, events)) = self.appends.front_mut() {
            let last = events.last().map_or(*previous, |last| last.id);
            if *previous == position && taken.len() < ENOUGH_EVENTS && bytes < ENOUGH_BYTES {
                position = last;
                bytes += events.iter().map(|event| event.event.data.len()).sum::<usize>();
                match taken.is_empty() {
                    true => taken = std::mem::take(events),
                    false => taken.append(events),
                }
            } else if !taken.is_empty() {
                break;
            } else {
                // What ends at the position or before was read by now, unless the run has begun anew meanwhile.
                self.missed |= last > position || *previous == EventId::START;
            }
            self.appends.pop_front();
        }
        if !taken.is_empty() {
            return News::Events(taken);
        }
        if std::mem::take(&mut self.missed) { News::Read } else { News::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::decode_entry;
    use proptest::prelude::*;

    fn at(n: u64) -> EventId {
        if n == 0 { EventId::START } else { EventId::new(n, 0) }
    }

    fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<StoredEvent> {
        let run = RunId::parse("7").unwrap();
        numbers.map(|n| decode_entry(&run, at(n), std::iter::empty())).collect()
    }

    #[test]
    fn who_stands_right_there_need_not_read() {
        let mut waiting = Waiting::default();
        waiting.put(at(3), events(4..=5));
        waiting.put(at(5), events(6..=6));
        assert_eq!(waiting.take(at(3)), News::Events(events(4..=6)));
        assert_eq!(waiting.take(at(6)), News::Nothing);
        // What was read by now is no news.
        waiting.put(at(6), events(7..=7));
        waiting.put(at(7), events(8..=9));
        assert_eq!(waiting.take(at(7)), News::Events(events(8..=9)));
        waiting.put(at(9), events(10..=10));
        assert_eq!(waiting.take(at(10)), News::Nothing);
    }

    #[test]
    fn who_stands_elsewhere_reads() {
        let mut waiting = Waiting::default();
        waiting.put(at(3), events(4..=5));
        assert_eq!(waiting.take(at(2)), News::Read);
        // An earlier attempt has stored it.
        waiting.put(at(5), Vec::new());
        assert_eq!(waiting.take(at(5)), News::Nothing);
        waiting.put(at(6), Vec::new());
        assert_eq!(waiting.take(at(5)), News::Read);
        // The run has begun anew.
        waiting.put(at(0), events(1..=1));
        assert_eq!(waiting.take(at(6)), News::Read);
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// So many events are appended, and the followers told.
        Append(u64),
        /// So many are appended by an attempt of which they are not told, but of the next one.
        AppendUnheard(u64),
        /// Two appends, of so many each, of which the followers are told the wrong way round.
        AppendCrossing(u64),
        /// The follower takes what it can, and then reads if it has to, so many at most.
        Follow(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..4_u64).prop_map(Step::Append),
            1 => (1..4_u64).prop_map(Step::AppendUnheard),
            1 => (1..4_u64).prop_map(Step::AppendCrossing),
            2 => (1..9_u64).prop_map(Step::Follow),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(
            joins_at in 0..3_u64,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (mut waiting, mut last, mut position) = (Waiting::default(), 2, joins_at);
            let mut must_read = true;
            let mut follow = |waiting: &mut Waiting, last: u64, most: u64| {
                let news = waiting.take(at(position));
                match &news {
                    News::Events(taken) => {
                        let end = position + taken.len() as u64;
                        assert_eq!(*taken, events(position + 1..=end));
                        position = end;
                    }
                    News::Read => must_read = true,
                    News::Nothing => {}
                }
                let idle = news == News::Nothing && !must_read;
                if !matches!(news, News::Events(_)) && must_read {
                    must_read = position + most < last;
                    position = last.min(position + most);
                }
                assert!(position <= last);
                idle.then_some(position)
            };
            for step in steps {
                match step {
                    Step::Append(count) => {
                        waiting.put(at(last), events(last + 1..=last + count));
                        last += count;
                    }
                    Step::AppendUnheard(count) => {
                        last += count;
                        waiting.put(at(last), Vec::new());
                    }
                    Step::AppendCrossing(count) => {
                        let (first, second) = (last + count, last + 2 * count);
                        waiting.put(at(first), events(first + 1..=second));
                        waiting.put(at(last), events(last + 1..=first));
                        last = second;
                    }
                    Step::Follow(most) => drop(follow(&mut waiting, last, most)),
                }
                prop_assert!(waiting.appends.len() <= ROOM);
            }
            let reached = std::iter::from_fn(|| Some(follow(&mut waiting, last, 3))).flatten().next();
            prop_assert_eq!(reached, Some(last));
        }
    }
}
