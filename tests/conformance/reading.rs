//! Reading what a store holds and says, always with a deadline.

use super::Store;
use crate::common::wait::PATIENCE;
use futures::StreamExt;
use runhub::event::{EventId, RunId, StoredEvent, Timestamp};
use runhub::store::{Order, RangeRequest, RunInfo, RunState, Tail, TailItem};
use std::time::Duration;

/// All events of a run, in pages that no small run fills.
pub const EVERYTHING: RangeRequest = RangeRequest {
    start: EventId::START,
    end: EventId::MAX,
    limit: 1000,
    enough_bytes: 64 << 20,
    order: Order::Ascending,
};

/// Every event of a run, oldest first.
pub async fn all(store: &Store, run: &RunId) -> Vec<StoredEvent> {
    walk(store, run, EVERYTHING).await
}

/// Every event of a range, read in as many pages as it takes.
pub async fn walk(store: &Store, run: &RunId, mut request: RangeRequest) -> Vec<StoredEvent> {
    let mut events = Vec::new();
    loop {
        let page = store.range(run, request).await.unwrap();
        assert!(page.events.len() <= request.limit, "{} events", page.events.len());
        let Some(last) = page.events.last().map(|e| e.id) else {
            assert!(!page.more, "an empty page that says there is more");
            return events;
        };
        events.extend(page.events);
        if !page.more {
            return events;
        }
        match request.order {
            Order::Ascending => request.start = last.next(),
            Order::Descending => request.end = before(last),
        }
    }
}

/// The greatest id less than this one.
fn before(id: EventId) -> EventId {
    match id.n.checked_sub(1) {
        Some(n) => EventId::new(id.ms, n),
        None => EventId::new(id.ms - 1, u64::MAX),
    }
}

/// The numbers that the events carry as data.
pub fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|e| e.event.data.parse().unwrap()).collect()
}

/// The numbers that the store gave the events.
pub fn sequences(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|e| e.sequence.unwrap().0).collect()
}

/// How a run stands that must be there.
pub async fn info(store: &Store, run: &RunId) -> RunInfo {
    match store.run(run).await.unwrap() {
        RunState::Known(info) => info,
        other => panic!("run {run} is {other:?}"),
    }
}

/// Waits until `look` finds something; panics with `what` if it never does.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("timed out waiting until {what}"),
    }
}

/// Waits until a run stands so.
pub async fn until_run_is(store: &Store, run: &RunId, wanted: &RunState) {
    until(&format!("run {run} is {wanted:?}"), async || {
        (store.run(run).await.unwrap() == *wanted).then_some(())
    })
    .await;
}

/// Waits until the clock, which stores count in milliseconds, has plainly moved on.
pub async fn until_the_clock_moves_on() {
    let then = Timestamp::now().as_ms() + 3;
    until("the clock moves on", async || (Timestamp::now().as_ms() > then).then_some(())).await;
}

/// Reads a tail.
pub struct Follower(Tail);

/// Longer than a tail may take to notice that its run was reset.
const NOTICED: Duration = Duration::from_secs(8);

impl Follower {
    pub fn new(store: &Store, run: &RunId, after: EventId) -> Self {
        Self(store.tail(run, after))
    }

    async fn next(&mut self) -> TailItem {
        let item = tokio::time::timeout(NOTICED, self.0.next()).await;
        item.expect("the tail has something to say").expect("a tail does not end")
    }

    /// The next events, of which there must be exactly so many.
    pub async fn events(&mut self, count: usize) -> Vec<StoredEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                TailItem::Events(more) => events.extend(more),
                TailItem::Reset => panic!("reset after {} events", events.len()),
            }
        }
        assert_eq!(events.len(), count);
        events
    }

    /// The next item must be a reset.
    pub async fn expect_reset(&mut self) {
        match self.next().await {
            TailItem::Reset => {}
            TailItem::Events(events) => panic!("expected a reset, got {} events", events.len()),
        }
    }
}
