//! The history checker: what publishers, subscribers and faults wrote down is held against what the hub
//! promises.
//!
//! Everybody who takes part in a campaign appends [`Record`]s, with one clock, as they see things happen.
//! [`check`] reads them when all is over and names everything that must not have been, with its culprit.
//! It knows nothing of the hub but its promises, and does no input or output.

mod ended;
mod finding;
mod index;
mod order;
mod record;
mod recorder;
mod report;
mod stored;
mod streams;

#[cfg(test)]
mod foreign_mutations;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod synthetic;

pub use finding::Kind;
pub use record::{EventId, Log, Outcome, Place, Record, Sent, What};
pub use recorder::{Recorder, read};
pub use report::{Bounds, Counts, Report, Verdict};

/// Checks a history that is over: all publishers have ended and all subscribers had time to read to the end.
pub fn check(records: &[Record], bounds: &Bounds) -> Report {
    let index = index::Index::of(records);
    let mut findings = Vec::new();
    stored::check(&index, &mut findings);
    order::check(&index, &mut findings);
    streams::check(&index, &mut findings);
    ended::check(&index, bounds, &mut findings);
    Report { findings, counts: Counts::of(&index, records) }
}
