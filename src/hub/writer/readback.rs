//! Reads back where the events of a batch are that was applied by an attempt nobody heard back from.

use crate::event::{EventId, EventKey, NewEvent, Sequence};
use crate::store::{LogStore, Order, Placed, PublishOutcome, RangeRequest, RunAppend, StoreError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Events looked at a time, newest first, and about as many bytes.
const PAGE_EVENTS: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;

/// The places of the events of the batch, for each of its publishes; none if not every event is there any
/// more, or a publish was refused. Every event has an `event_id`, so each can be recognised.
pub(super) async fn places(
    store: &dyn LogStore,
    append: &RunAppend,
) -> Result<Option<Vec<PublishOutcome>>, StoreError> {
    let mut missing: HashSet<&EventKey> =
        append.publishes.iter().flat_map(|publish| publish.iter()).map(|new| &new.key).collect();
    let mut found: HashMap<EventKey, (EventId, Sequence)> = HashMap::new();
    let mut request = RangeRequest {
        start: EventId::START,
        end: EventId::MAX,
        limit: PAGE_EVENTS,
        enough_bytes: PAGE_BYTES,
        order: Order::Descending,
    };
    while !missing.is_empty() {
        let page = store.range(&append.run, request).await?;
        for stored in &page.events {
            if let (Some(key), Some(sequence)) = (&stored.event.event_id, stored.sequence)
                && missing.remove(key)
            {
                found.insert(key.clone(), (stored.id, sequence));
            }
        }
        match page.events.last() {
            Some(last) if page.more => request.end = last.id.before(),
            _ => break,
        }
    }
    let outcome = |publish: &Arc<[NewEvent]>| {
        let placed = publish.iter().map(|new| {
            let (id, sequence) = *found.get(&new.key)?;
            Some(Placed { id, sequence, duplicate: false })
        });
        placed.collect::<Option<_>>().map(PublishOutcome::Stored)
    };
    Ok(append.publishes.iter().map(outcome).collect())
}
