//! Says so where an event that was accepted is not stored: its `event_id` stands for other content, which nobody could
//! know when its publisher was answered. Whoever published it can be told no more, so operators are.

use crate::event::RunId;
use crate::store::PublishOutcome;
use crate::telemetry::metrics;

/// Tells of the events that a run did not get: so many that a search had left out before, and what the store says.
pub(super) fn tell(run: &RunId, searched: usize, outcomes: &[PublishOutcome]) {
    let count_of = |outcome: &PublishOutcome| match outcome {
        PublishOutcome::Stored(placed) => placed.iter().filter(|place| place.reused).count(),
        PublishOutcome::Already | PublishOutcome::KeyReused { .. } => 0,
    };
    let count = searched + outcomes.iter().map(count_of).sum::<usize>();
    if count > 0 {
        metrics::left_out(count as u64);
        log::warn!(
            "{count} accepted events of run {run} were left out: their event_id was used for other content \
             before; give each event an event_id of its own"
        );
    }
}
