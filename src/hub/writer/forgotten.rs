//! Events whose `event_id` the store may have forgotten while they waited in the spool. An event is a repetition if what
//! it repeats was stored within `publish.dedup_window` before it was published, however late it is drained; but the store
//! reckons from the drain. So what it has forgotten by then is looked for in the run itself.

use crate::event::{EventId, EventKey, NewEvent, RunId, Timestamp, digest};
use crate::store::{LogStore, Order, RangeRequest, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The store forgets by its own clock, which may be so far ahead of this machine's.
const CLOCK_SLACK_MS: u64 = 60_000;
/// Events looked through at a time.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 8 << 20;

/// The events of a publish, and when it was spooled, in ms since the Unix epoch.
pub(super) type Waited<'a> = (u64, &'a mut Arc<[NewEvent]>);

/// An event of the run that has one of the ids looked for.
struct Earlier {
    at: EventId,
    digest: u64,
}

/// Leaves out what a run had got before; says how many events are there with other content.
pub(super) async fn leave_out(
    store: &dyn LogStore,
    run: &RunId,
    waited: &mut [Waited<'_>],
    window: Duration,
) -> Result<usize, StoreError> {
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    // What came later the store knows.
    let forgotten_ms = Timestamp::now().as_ms().saturating_sub(window_ms) + CLOCK_SLACK_MS;
    let mut earlier: HashMap<EventKey, Vec<Earlier>> = HashMap::new();
    let mut from_ms = u64::MAX;
    for (since_ms, events) in waited.iter() {
        for new in events.iter().filter(|new| is_indexed(new)) {
            from_ms = from_ms.min(since_ms.saturating_sub(window_ms));
            earlier.entry(new.key.clone()).or_default();
        }
    }
    let mut request = RangeRequest {
        start: EventId::new(from_ms, 0),
        end: EventId::new(forgotten_ms, u64::MAX),
        limit: PAGE,
        enough_bytes: PAGE_BYTES,
        order: Order::Ascending,
    };
    while request.start <= request.end {
        let page = store.range(run, request).await?;
        for stored in &page.events {
            let key = stored.event.event_id.as_ref();
            if let Some(places) = key.and_then(|key| earlier.get_mut(key)) {
                places.push(Earlier { at: stored.id, digest: digest::of(&stored.event) });
            }
        }
        match page.events.last() {
            Some(last) if page.more => request.start = last.id.next(),
            _ => break,
        }
    }
    earlier.retain(|_, places| !places.is_empty());
    if earlier.is_empty() {
        return Ok(0);
    }
    let mut reused = 0;
    for (since_ms, events) in waited {
        let since = EventId::new(since_ms.saturating_sub(window_ms), 0);
        let is_new = |new: &&NewEvent| {
            let places = earlier.get(&new.key).filter(|_| is_indexed(new));
            let found = places.and_then(|places| places.iter().find(|place| place.at >= since));
            reused += usize::from(found.is_some_and(|place| place.digest != new.digest));
            found.is_none()
        };
        **events = events.iter().filter(is_new).cloned().collect();
    }
    Ok(reused)
}

/// Whether the store knows the `event_id` by its index; those that hubs made it does not.
fn is_indexed(new: &NewEvent) -> bool {
    new.key_is_given && new.key.hub_made_ms().is_none()
}
