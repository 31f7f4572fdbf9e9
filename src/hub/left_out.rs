//! Says so where an event that was accepted is not stored: its `event_id` stands for other content, which nobody could
//! know when its publisher was answered. Whoever published it can be told no more, so operators are.

use crate::event::RunId;
use crate::store::PublishOutcome;
use crate::telemetry::metrics;

/// Counts what was left out of publishes to a run.
pub(super) fn tell_of<'a>(run: &RunId, outcomes: impl IntoIterator<Item = &'a PublishOutcome>) {
    let count_of = |outcome: &PublishOutcome| match outcome {
        PublishOutcome::Stored(placed) => placed.iter().filter(|place| place.reused).count(),
        PublishOutcome::Already | PublishOutcome::KeyReused { .. } => 0,
    };
    tell(run, outcomes.into_iter().map(count_of).sum());
}

/// So many accepted events of a run were left out.
pub(super) fn tell(run: &RunId, count: usize) {
    if count > 0 {
        metrics::left_out(count as u64);
        log::warn!(
            "{count} accepted events of run {run} were left out: their event_id was used for other content \
             before; give each event an event_id of its own"
        );
    }
}
