//! Finds events in a run by an `event_id` that a hub made. Such ids are in no index, because few ever come
//! back; one that does is looked for in the run itself, from the time it carries.

use crate::event::{EventId, EventKey, NewEvent, RunId, digest};
use crate::store::{LogStore, Placed, RangeRequest, StoreError};
use std::collections::HashMap;

/// How far a hub-made `event_id`'s own time may lie behind its event's position: clocks differ.
const CLOCK_SLACK_MS: u64 = 60_000;
/// Events looked through at a time.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 8 << 20;

/// Where the run has those of the events that `is_wanted` and whose `event_id` a hub made; one look through the run
/// for all of them.
pub(super) async fn find(
    store: &dyn LogStore,
    run: &RunId,
    events: &[NewEvent],
    is_wanted: impl Fn(&NewEvent, u64) -> bool,
) -> Result<Vec<Option<Placed>>, StoreError> {
    let mut known = vec![None; events.len()];
    let mut wanted: HashMap<&EventKey, Vec<usize>> = HashMap::new();
    let mut from_ms = u64::MAX;
    for (index, new) in events.iter().enumerate().filter(|(_, new)| new.key_is_given) {
        if let Some(made_ms) = new.key.hub_made_ms().filter(|ms| is_wanted(new, *ms)) {
            from_ms = from_ms.min(made_ms);
            wanted.entry(&new.key).or_default().push(index);
        }
    }
    let mut from = EventId::new(from_ms.saturating_sub(CLOCK_SLACK_MS), 0);
    while !wanted.is_empty() {
        let page = store.range(run, RangeRequest::after(from, PAGE, PAGE_BYTES)).await?;
        for stored in &page.events {
            let (Some(key), Some(sequence)) = (&stored.event.event_id, stored.sequence) else {
                continue;
            };
            let Some(indexes) = wanted.remove(key) else { continue };
            let content = digest::of(&stored.event);
            for index in indexes {
                let reused = events[index].digest != content;
                let placed = Placed { id: stored.id, sequence, duplicate: true, reused };
                known[index] = Some(placed);
            }
        }
        match page.events.last() {
            Some(last) if page.more => from = last.id,
            _ => break,
        }
    }
    Ok(known)
}

/// Leaves out the events that had to be searched for and are in the run; says how many are there with other content.
pub(super) async fn leave_out_known(
    store: &dyn LogStore,
    run: &RunId,
    events: &mut std::sync::Arc<[NewEvent]>,
) -> Result<usize, StoreError> {
    let mut reused = 0;
    if events.iter().any(|new| new.search_first) {
        let known = find(store, run, events, |new, _| new.search_first).await?;
        reused = known.iter().flatten().filter(|place| place.reused).count();
        let unknown = events.iter().zip(known).filter(|(_, known)| known.is_none());
        *events = unknown.map(|(new, _)| new.clone()).collect();
    }
    Ok(reused)
}
