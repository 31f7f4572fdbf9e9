//! Events that a reader was to get and cannot: said, never silently skipped.

use crate::event::{EventId, Sequence};

/// A hole in what a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The position the reader was at.
    pub requested: EventId,
    /// The oldest event kept, from which the reader goes on; none if none is.
    pub oldest: Option<EventId>,
    /// How many events are missing, where it can be known.
    pub missed: Option<u64>,
}

/// Why there is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The events behind the position were trimmed away.
    Trimmed,
    /// The position is ahead of the run: the store was emptied or rolled back.
    Reset,
}

impl GapReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Reset => "reset",
        }
    }
}

impl Gap {
    /// The hole between a position, whose event had this number, and the oldest event kept behind it. To
    /// be asked only where that event does not directly follow.
    pub fn between(
        requested: EventId,
        at: Option<Sequence>,
        oldest: EventId,
        first: Option<Sequence>,
    ) -> Self {
        let (reason, missed) = match (at, first) {
            // Numbers begin anew: what is kept now is another life of the run.
            (Some(at), Some(first)) if first <= at => (GapReason::Reset, None),
            (Some(at), Some(first)) => (GapReason::Trimmed, at.missing_before(first)),
            _ => (GapReason::Trimmed, None),
        };
        Self { reason, requested, oldest: Some(oldest), missed }
    }
}
