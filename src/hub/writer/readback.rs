//! Reads back where the events of a batch are that was applied by an attempt nobody heard back from.

use crate::event::{EventId, EventKey, NewEvent, Sequence};
use crate::store::{LogStore, Order, Placed, PublishOutcome, RangeRequest, RunAppend, StoreError};
use std::collections::HashMap;
use std::sync::Arc;

/// The place of each event of the batch. Every event has an `event_id`, so each can be recognised; the
/// whole run is looked through, as a duplicate may be its oldest event.
pub(super) async fn places(
    store: &dyn LogStore,
    append: &RunAppend,
) -> Result<Vec<PublishOutcome>, StoreError> {
    let request = RangeRequest {
        start: EventId::START,
        end: EventId::MAX,
        limit: usize::MAX,
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
    let outcome = |publish: &Arc<[NewEvent]>| {
        let placed = publish.iter().map(|new| {
            let (id, sequence) = *found.get(&new.key)?;
            Some(Placed { id, sequence, duplicate: false })
        });
        match placed.collect::<Option<Vec<_>>>() {
            Some(placed) => Ok(PublishOutcome::Stored(placed)),
            // Applied, and not there: what can be refused was refused, the rest is trimmed away by now.
            None => match publish.iter().position(|new| new.key_is_given) {
                Some(index) => Ok(PublishOutcome::KeyReused { index }),
                None => {
                    Err(StoreError::NoAnswer { reason: "the events are trimmed already".into() })
                }
            },
        }
    };
    append.publishes.iter().map(outcome).collect()
}
