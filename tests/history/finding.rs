//! What must not be in a history.

use super::record::{Log, Place};
use std::fmt;

/// Something the hub did that it promises not to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It was acknowledged, or a reader had it, and it is not there.
    Lost { run: String, key: String, told: String },
    /// A log has nothing at these numbers, from the first to the last of them.
    Hole { log: Log, run: String, first: u64, last: u64 },
    /// One event is in the run twice.
    StoredTwice { log: Log, run: String, key: String, places: [Place; 2] },
    /// One event came to one subscriber twice.
    DeliveredTwice { subscriber: String, run: String, key: String, places: [Place; 2] },
    /// It is there, and nobody sent it to this run.
    Phantom { whose: String, run: String, key: String, place: Place },
    /// A log or a stream goes back.
    Backwards { whose: String, run: String, key: String, place: Place, behind: Place },
    /// Events that one publisher published one after the other are stored the other way round.
    PublisherOrder { publisher: String, run: String, first: String, second: String },
    /// Two who tell of one event do not tell the same place.
    Displaced { run: String, key: String, whose: [String; 2], places: [Place; 2] },
    /// A subscriber's stream passed over events and said nothing, or said it without need.
    Skipped { subscriber: String, run: String, first: u64, last: u64 },
    /// The same of an event that another program had added to the store.
    SkippedUnnumbered { subscriber: String, run: String, key: String, place: Place },
    /// What came out is not what went in.
    Changed { whose: String, run: String, key: String, sent: String, found: String },
    /// Of a batch a part is there.
    Torn { run: String, op: u64, there: usize, of: usize },
    /// A subscriber has not got the last event of its run.
    Behind { subscriber: String, run: String, last: Option<Place>, end: Place },
    /// An attempt has neither an answer nor a lost connection.
    Unanswered { op: u64, attempt: u32 },
    /// An attempt took too long.
    Slow { op: u64, attempt: u32, took_us: u64 },
    /// Something did not come about in time.
    Overdue { what: String },
    /// A publish is there of which the hub said that it is not.
    RefusedButStored { run: String, key: String, codes: Vec<String> },
    /// The hub said or did what it must never.
    Broken { what: String },
}

/// The kinds of findings, by the promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Lost,
    Doubled,
    Phantom,
    Reordered,
    Skipped,
    Changed,
    Torn,
    Stalled,
    RefusedButStored,
    Broken,
}

impl Finding {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Lost { .. } | Self::Hole { .. } => Kind::Lost,
            Self::StoredTwice { .. } | Self::DeliveredTwice { .. } => Kind::Doubled,
            Self::Phantom { .. } => Kind::Phantom,
            Self::Backwards { .. } | Self::PublisherOrder { .. } | Self::Displaced { .. } => {
                Kind::Reordered
            }
            Self::Skipped { .. } | Self::SkippedUnnumbered { .. } => Kind::Skipped,
            Self::Changed { .. } => Kind::Changed,
            Self::Torn { .. } => Kind::Torn,
            Self::Behind { .. }
            | Self::Unanswered { .. }
            | Self::Slow { .. }
            | Self::Overdue { .. } => Kind::Stalled,
            Self::RefusedButStored { .. } => Kind::RefusedButStored,
            Self::Broken { .. } => Kind::Broken,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { run, key, told } => write!(f, "lost: {key} of {run}: {told}"),
            Self::Hole { log, run, first, last } => {
                write!(f, "lost: {log} of {run} has no sequence {first} to {last}")
            }
            Self::StoredTwice { log, run, key, places: [a, b] } => {
                write!(f, "doubled: {log} of {run} has {key} at {a} and at {b}")
            }
            Self::DeliveredTwice { subscriber, run, key, places: [a, b] } => {
                write!(f, "doubled: {subscriber} on {run} got {key} at {a} and at {b}")
            }
            Self::Phantom { whose, run, key, place } => {
                write!(f, "phantom: {whose} of {run} has {key} at {place}, which nobody sent")
            }
            Self::Backwards { whose, run, key, place, behind } => {
                write!(f, "reordered: {whose} of {run} has {key} at {place} behind {behind}")
            }
            Self::PublisherOrder { publisher, run, first, second } => write!(
                f,
                "reordered: {publisher} published {first} to {run} before {second}, which stands before it"
            ),
            Self::Displaced { run, key, whose: [x, y], places: [a, b] } => {
                write!(f, "reordered: {key} of {run} is at {a} for {x} and at {b} for {y}")
            }
            Self::Skipped { subscriber, run, first, last } => {
                write!(f, "skipped: {subscriber} on {run} never got sequence {first} to {last}")
            }
            Self::SkippedUnnumbered { subscriber, run, key, place } => {
                write!(f, "skipped: {subscriber} on {run} never got {key} at {place}")
            }
            Self::Changed { whose, run, key, sent, found } => {
                write!(f, "changed: {whose} of {run} has {key} as {found}, sent as {sent}")
            }
            Self::Torn { run, op, there, of } => {
                write!(f, "torn: of publish {op} to {run} {there} of {of} events are there")
            }
            Self::Behind { subscriber, run, last, end } => {
                let last = last.map_or("nothing".to_owned(), |place| place.to_string());
                write!(f, "stalled: {subscriber} on {run} has {last}, the end is {end}")
            }
            Self::Unanswered { op, attempt } => {
                write!(f, "stalled: attempt {attempt} of publish {op} has no end")
            }
            Self::Slow { op, attempt, took_us } => {
                write!(f, "stalled: attempt {attempt} of publish {op} took {} ms", took_us / 1000)
            }
            Self::Overdue { what } => write!(f, "stalled: {what}"),
            Self::RefusedButStored { run, key, codes } => {
                write!(f, "refused but stored: {key} of {run}, answered {}", codes.join(", "))
            }
            Self::Broken { what } => write!(f, "broken: {what}"),
        }
    }
}
