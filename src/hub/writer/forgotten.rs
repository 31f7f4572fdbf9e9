//! Events whose `event_id` the store may have forgotten while they waited in the spool. An event is a repetition if what
//! it repeats was stored within `publish.dedup_window` of when it was published, however late it is drained; but the
//! store remembers an id for little longer than that. So what it has forgotten by then is looked for in the run itself.
//!
//! A run is looked through once while it is drained, some of it at a time: others wait for the writer meanwhile.

use crate::event::{EventId, EventKey, NewEvent, RunId, digest};
use crate::store::{LogStore, Order, RangeRequest, RunState, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The store forgets by its own clock, which may be so far ahead of this machine's.
const CLOCK_SLACK_MS: u64 = 10_000;
/// Events looked through at a time.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;

/// Since when a publish waits, in ms since the Unix epoch, and its events.
pub(super) type Waited<'a> = (u64, &'a mut Arc<[NewEvent]>);

/// What the runs that are drained had got before.
#[derive(Default)]
pub(super) struct Forgotten {
    runs: HashMap<RunId, Looked>,
}

/// How far a run was looked through, and what was found.
struct Looked {
    from: EventId,
    next: EventId,
    /// The digests of the events whose publishers chose their `event_id`, by its hash and where they are.
    found: BTreeMap<(u64, EventId), u64>,
}

impl Looked {
    fn from(from: EventId) -> Self {
        Self { from, next: from, found: BTreeMap::new() }
    }

    /// The digest of what an event repeats that was published then, if that was found.
    fn repeated(&self, new: &NewEvent, since_ms: u64, window_ms: u64) -> Option<u64> {
        let hash = if is_indexed(new) { hash(&new.key) } else { return None };
        let first = EventId::new(since_ms.saturating_sub(window_ms), 0);
        let last = EventId::new(since_ms.saturating_add(window_ms), u64::MAX);
        let mut found = self.found.range((hash, first)..=(hash, last));
        found.next().map(|(_, digest)| *digest)
    }
}

impl Forgotten {
    /// Lets go what was found in runs that are not drained any more.
    pub(super) fn retain(&mut self, is_drained: impl Fn(&RunId) -> bool) {
        self.runs.retain(|run, _| is_drained(run));
    }

    /// Looks for what the store has forgotten at `now_ms`, and may have known when these were published; until it has
    /// read about `room` bytes, which it takes off. True if there is nothing more to look through.
    pub(super) async fn look(
        &mut self,
        store: &dyn LogStore,
        run: &RunId,
        waited: &[Waited<'_>],
        window: Duration,
        now_ms: u64,
        room: &mut usize,
    ) -> Result<bool, StoreError> {
        let window_ms = in_ms(window);
        let asking = waited.iter().filter(|(_, events)| events.iter().any(is_indexed));
        let Some(since_ms) = asking.map(|(since_ms, _)| *since_ms).min() else { return Ok(true) };
        let from = EventId::new(since_ms.saturating_sub(window_ms), 0);
        let behind_all = EventId::new(now_ms.saturating_sub(window_ms) + CLOCK_SLACK_MS, 0);
        let looked = self.runs.entry(run.clone()).or_insert_with(|| Looked::from(from));
        if from < looked.from {
            *looked = Looked::from(from);
        }
        while looked.next < behind_all {
            if *room == 0 {
                return Ok(false);
            }
            let request = RangeRequest {
                start: looked.next,
                end: behind_all.before(),
                limit: PAGE,
                enough_bytes: PAGE_BYTES,
                order: Order::Ascending,
            };
            let page = store.range(run, request).await?;
            for stored in &page.events {
                *room = room.saturating_sub(stored.event.text_bytes());
                if let Some(key) = stored.event.event_id.as_ref().filter(|key| is_chosen(key)) {
                    let place = (hash(key), stored.id);
                    looked.found.insert(place, digest::of(&stored.event));
                }
            }
            let last = page.events.last().filter(|_| page.more);
            looked.next = last.map_or(behind_all, |last| last.id.next());
        }
        Ok(true)
    }

    /// Leaves out what was found in the run; says how many are there with other content.
    pub(super) async fn leave_out(
        &mut self,
        store: &dyn LogStore,
        run: &RunId,
        waited: &mut [Waited<'_>],
        window: Duration,
    ) -> Result<usize, StoreError> {
        let Some(looked) = self.runs.get_mut(run) else { return Ok(0) };
        let window_ms = in_ms(window);
        let is_there = |(since_ms, events): &Waited<'_>| {
            events.iter().any(|new| looked.repeated(new, *since_ms, window_ms).is_some())
        };
        if !waited.iter().any(is_there) {
            return Ok(0);
        }
        // Another hub may have deleted the run since.
        let begun_ms = match store.run(run).await? {
            RunState::Known(info) => info.created_ms,
            RunState::Unknown | RunState::Expired => u64::MAX,
        };
        looked.found.retain(|(_, id), _| id.ms >= begun_ms);
        let mut reused = 0;
        for (since_ms, events) in waited {
            let is_new = |new: &&NewEvent| {
                let Some(digest) = looked.repeated(new, *since_ms, window_ms) else { return true };
                reused += usize::from(digest != new.digest);
                false
            };
            **events = events.iter().filter(is_new).cloned().collect();
        }
        Ok(reused)
    }
}

/// Whether the store knows the event by its `event_id`.
fn is_indexed(new: &NewEvent) -> bool {
    new.key_is_given && is_chosen(&new.key)
}

/// Whether a publisher chose the id; those that hubs made are in no index.
fn is_chosen(key: &EventKey) -> bool {
    key.hub_made_ms().is_none()
}

fn hash(key: &EventKey) -> u64 {
    xxh3_64(key.as_str().as_bytes())
}

fn in_ms(window: Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RetentionConfig;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, Timestamp};
    use crate::store::memory::MemoryStore;
    use crate::store::{Publish, RunAppend, StoreRules};

    const WINDOW: Duration = Duration::from_secs(600);

    fn run() -> RunId {
        RunId::parse("r").unwrap()
    }

    fn new(key: &str, data: u64) -> NewEvent {
        let json = format!(r#"{{"type":"a.b","event_id":"{key}","data":{data}}}"#);
        let limits = EventLimits { max_data: 100 };
        NewEvent::new(parse_event(&run(), &json, Timestamp::from_ms(5), limits).unwrap())
    }

    /// A store with these events, and when it got them.
    async fn store(events: Vec<NewEvent>) -> (MemoryStore, u64) {
        let store = MemoryStore::new(StoreRules::new(&RetentionConfig::default(), WINDOW));
        let publish = Publish::now(1, events.into(), true);
        let append = RunAppend { run: run(), writer: 1, publishes: vec![publish] };
        assert!(store.append(&[append]).await.iter().all(Result::is_ok));
        (store, Timestamp::now().as_ms())
    }

    /// What is left of an event that has waited since then.
    async fn left(store: &MemoryStore, since_ms: u64, drained_ms: u64, key: &str) -> usize {
        let (mut forgotten, mut events) = (Forgotten::default(), Arc::from([new(key, 1)]));
        let mut waited = [(since_ms, &mut events)];
        let (run, mut room) = (run(), usize::MAX);
        let look = forgotten.look(store, &run, &waited, WINDOW, drained_ms, &mut room);
        assert_eq!(look.await, Ok(true));
        assert_eq!(forgotten.leave_out(store, &run, &mut waited, WINDOW).await, Ok(0));
        events.len()
    }

    #[tokio::test]
    async fn what_was_stored_within_the_window_of_the_publish_is_left_out() {
        let (store, at) = store(vec![new("k", 1)]).await;
        let (window, minute) = (600_000, 60_000);
        // An hour later the store has forgotten it, whenever it was published.
        let hour = at + 60 * minute;
        assert_eq!(left(&store, at + window - minute, hour, "k").await, 0);
        assert_eq!(left(&store, at - minute, hour, "k").await, 0, "another hub was sooner");
        assert_eq!(left(&store, at + window + minute, hour, "k").await, 1, "it is new by then");
        assert_eq!(left(&store, at - window - minute, hour, "k").await, 1, "the other one is new");
        assert_eq!(left(&store, at + minute, hour, "other").await, 1);
        // What the store still knows is its to say.
        assert_eq!(left(&store, at + minute, at + 2 * minute, "k").await, 1);
    }

    #[tokio::test]
    async fn a_run_is_looked_through_once_and_some_of_it_at_a_time() {
        let (store, at) = store((0..2500).map(|n| new(&format!("k{n}"), n)).collect()).await;
        let (run, mut forgotten) = (run(), Forgotten::default());
        let mut first = Arc::from([new("k3", 3), new("k2400", 7), new("new", 1)]);
        let mut second = Arc::from([new("k2499", 2499)]);
        let mut waited = [(at, &mut first), (at + 1, &mut second)];
        let hour = at + 3_600_000;
        let mut turns = 0;
        loop {
            let mut room = 1;
            turns += 1;
            let look = forgotten.look(&store, &run, &waited, WINDOW, hour, &mut room);
            if look.await.unwrap() {
                break;
            }
            assert_eq!(room, 0);
        }
        assert_eq!(turns, 3, "a thousand at a time");
        let mut room = 1;
        let again = forgotten.look(&store, &run, &waited[1..], WINDOW, hour, &mut room);
        assert_eq!((again.await, room), (Ok(true), 1));
        let reused = forgotten.leave_out(&store, &run, &mut waited, WINDOW).await;
        assert_eq!(reused, Ok(1), "k2400 is reused");
        assert_eq!((first.len(), &*first[0].key.to_string(), second.len()), (1, "new", 0));
        forgotten.retain(|_| false);
        assert!(forgotten.runs.is_empty());
    }

    #[tokio::test]
    async fn what_was_found_in_a_run_that_is_gone_by_then_repeats_nothing() {
        let (store, at) = store(vec![new("k", 1)]).await;
        let (run, mut forgotten, mut room) = (run(), Forgotten::default(), usize::MAX);
        let mut events = Arc::from([new("k", 1)]);
        let mut waited = [(at + 1000, &mut events)];
        let look = forgotten.look(&store, &run, &waited, WINDOW, at + 3_600_000, &mut room);
        assert_eq!(look.await, Ok(true));
        assert_eq!(store.delete(&run).await, Ok(true));
        while Timestamp::now().as_ms() <= at {}
        let publish = Publish::now(1, [new("other", 2)].into(), true);
        let append = RunAppend { run: run.clone(), writer: 2, publishes: vec![publish] };
        assert!(store.append(&[append]).await.iter().all(Result::is_ok));
        assert_eq!(forgotten.leave_out(&store, &run, &mut waited, WINDOW).await, Ok(0));
        assert_eq!(events.len(), 1);
    }
}
