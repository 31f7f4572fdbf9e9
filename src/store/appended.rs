//! What became of an append to one run, and the events that it stored.

use super::{PublishOutcome, RunAppend};
use crate::event::{EventId, StoredEvent};

/// What became of the appends to one run.
#[derive(Debug, Clone)]
pub(super) struct Appended {
    /// The run's last id before, behind which everything that was stored directly follows.
    pub(super) previous: EventId,
    /// One for each publish.
    pub(super) outcomes: Vec<PublishOutcome>,
}

impl Appended {
    /// The events that are new, as whoever reads the run gets them. `append` is what was asked.
    pub(super) fn events(&self, append: &RunAppend) -> Vec<StoredEvent> {
        let publishes = append.publishes.iter();
        let mut stored = Vec::with_capacity(publishes.clone().map(|p| p.events.len()).sum());
        for (publish, outcome) in publishes.zip(&self.outcomes) {
            let PublishOutcome::Stored(placed) = outcome else { continue };
            let new = publish.events.iter().zip(placed).filter(|(_, placed)| !placed.duplicate);
            stored.extend(new.map(|(new, placed)| StoredEvent {
                id: placed.id,
                sequence: Some(placed.sequence),
                event: new.event.clone(),
            }));
        }
        stored
    }
}
