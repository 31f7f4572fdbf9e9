//! A batch under way to the store.

use super::{Pending, Reply, size_of_events};
use crate::store::{Publish, RunAppend};

/// A batch under way, or one that is to be sent again: the appends, and who waits for each publish.
pub(super) struct FlightState {
    pub(super) legs: Vec<Leg>,
    /// The attempt that is under way, if one is.
    pub(super) attempt: Option<u64>,
}

pub(super) struct Leg {
    pub(super) append: RunAppend,
    pub(super) replies: Vec<Option<Reply>>,
    pub(super) bytes: usize,
    /// Whether the store may have applied it: then it goes again as it is, or not at all.
    pub(super) may_be_applied: bool,
    /// It is in the spool under the same numbers, which is what counts from then on.
    pub(super) spilled: bool,
}

/// A batch to send to the store.
pub(in crate::hub::writer) struct Flight {
    pub(super) attempt: u64,
    pub(super) legs: Vec<RunAppend>,
}

impl Flight {
    pub(in crate::hub::writer) fn appends(&self) -> &[RunAppend] {
        &self.legs
    }

    /// Whether some of it may be in its run already, under an id that a hub made.
    pub(in crate::hub::writer) fn must_search(&self) -> bool {
        let publishes = self.legs.iter().flat_map(|leg| &leg.publishes);
        publishes.flat_map(|publish| publish.events.iter()).any(|new| new.search_first)
    }

    pub(in crate::hub::writer) fn events(&self) -> usize {
        let publishes = self.legs.iter().flat_map(|leg| &leg.publishes);
        publishes.map(|publish| publish.events.len()).sum()
    }
}

impl Leg {
    pub(super) fn into_waiting(self) -> Vec<Pending> {
        let RunAppend { run, publishes, .. } = self.append;
        let pending = |(publish, reply): (Publish, _)| {
            let Publish { events, published_ms, .. } = publish;
            let (run, bytes) = (run.clone(), size_of_events(&events));
            Pending { run, events, published_ms, bytes, reply }
        };
        publishes.into_iter().zip(self.replies).map(pending).collect()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.replies.iter().any(|reply| reply.as_ref().is_none_or(|reply| !reply.is_closed()))
    }
}
