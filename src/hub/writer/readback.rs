//! Reads back where the events of a publish are that was applied by an attempt nobody heard back from.

use crate::event::{EventId, EventKey, Sequence, digest};
use crate::store::{
    LogStore, Order, Placed, Publish, PublishOutcome, RangeRequest, RunAppend, StoreError,
};
use std::collections::HashMap;

/// Events looked at a time, newest first, and about as many bytes.
const PAGE_EVENTS: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;

/// The outcomes of an append, where those of publishes that an earlier attempt applied are told as if it
/// had been answered. One stays `Already` if not every event of it is there any more.
/// Every event has an `event_id`, so each can be recognised.
pub(super) async fn told(
    store: &dyn LogStore,
    append: &RunAppend,
    outcomes: Vec<PublishOutcome>,
) -> Result<Vec<PublishOutcome>, StoreError> {
    let of_publishes = append.publishes.iter().zip(&outcomes);
    // Nobody waits to hear of what was answered.
    let applied = of_publishes
        .filter(|(publish, outcome)| **outcome == PublishOutcome::Already && !publish.answered);
    // Another event may have got an event_id since that is free again.
    let mut missing: HashMap<&EventKey, u64> = applied
        .flat_map(|(publish, _)| publish.events.iter())
        .map(|new| (&new.key, new.digest))
        .collect();
    if missing.is_empty() {
        return Ok(outcomes);
    }
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
                && missing.get(key).is_some_and(|wanted| *wanted == digest::of(&stored.event))
            {
                missing.remove(key);
                found.insert(key.clone(), (stored.id, sequence));
            }
        }
        match page.events.last() {
            Some(last) if page.more => request.end = last.id.before(),
            _ => break,
        }
    }
    let places = |publish: &Publish| {
        let placed = publish.events.iter().map(|new| {
            let (id, sequence) = *found.get(&new.key)?;
            Some(Placed::of_new(id, sequence))
        });
        placed.collect::<Option<_>>().map(PublishOutcome::Stored)
    };
    let told = append.publishes.iter().zip(outcomes).map(|(publish, outcome)| match outcome {
        PublishOutcome::Already => places(publish).unwrap_or(PublishOutcome::Already),
        other => other,
    });
    Ok(told.collect())
}
