//! Reads back where the events of a batch are that was applied by an attempt nobody heard back from.

use crate::event::{EventId, EventKey, Sequence};
use crate::store::{LogStore, Order, Placed, PublishOutcome, RangeRequest, RunAppend, StoreError};
use std::collections::HashMap;

/// How many of the newest events are looked through.
const LOOK_BACK: usize = 4000;

/// The place of each event of the batch. Every event has an `event_id`, so each can be recognised.
pub(super) async fn places(
    store: &dyn LogStore,
    append: &RunAppend,
) -> Result<Vec<PublishOutcome>, StoreError> {
    let request = RangeRequest {
        start: EventId::START,
        end: EventId::MAX,
        limit: LOOK_BACK,
        enough_bytes: usize::MAX,
        order: Order::Descending,
    };
    let page = store.range(&append.run, request).await?;
    let mut found: HashMap<&EventKey, (EventId, Sequence)> = HashMap::new();
    for stored in &page.events {
        if let (Some(key), Some(sequence)) = (&stored.event.event_id, stored.sequence) {
            found.insert(key, (stored.id, sequence));
        }
    }
    let outcome = |publish: &std::sync::Arc<[crate::event::NewEvent]>| {
        let placed = publish.iter().map(|new| {
            let (id, sequence) = *found.get(&new.key)?;
            Some(Placed { id, sequence, duplicate: false })
        });
        let missing = publish.iter().position(|new| !found.contains_key(&new.key));
        placed
            .collect::<Option<Vec<_>>>()
            .map(PublishOutcome::Stored)
            .unwrap_or_else(|| PublishOutcome::KeyReused { index: missing.unwrap_or(0) })
    };
    Ok(append.publishes.iter().map(outcome).collect())
}
