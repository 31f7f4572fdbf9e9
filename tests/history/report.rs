//! What a check comes to.

use super::finding::{Finding, Kind};
use super::index::Index;
use super::record::{Log, Outcome, Record, What};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is still in time.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How long a publish may take, the time in which the hub itself was stopped not counted.
    pub publish: Duration,
}

/// The outcome of a check.
#[derive(Debug)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub counts: Counts,
}

/// How much there was to check.
#[derive(Debug, Default)]
pub struct Counts {
    /// Publishes, and the events in them.
    pub ops: usize,
    pub events: usize,
    /// Attempts by what they came to.
    pub attempts: BTreeMap<String, usize>,
    /// Faults by name.
    pub faults: BTreeMap<String, usize>,
    pub received: usize,
    pub connections: usize,
    pub gaps: usize,
    /// Events that the hub has at the end.
    pub stored: usize,
    /// Publishes of which an attempt was unknown or spooled.
    pub in_doubt: usize,
}

/// The check in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    Findings,
    /// Nothing was found, but nothing was put to the test either.
    Void,
}

impl Report {
    pub fn verdict(&self) -> Verdict {
        match (self.findings.is_empty(), self.counts.faults.is_empty(), self.counts.in_doubt) {
            (false, ..) => Verdict::Findings,
            (true, true, _) | (true, _, 0) => Verdict::Void,
            (true, false, _) => Verdict::Clean,
        }
    }

    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.findings.iter().map(Finding::kind).collect()
    }
}

impl Counts {
    pub(super) fn of(index: &Index, records: &[Record]) -> Self {
        let of_the_hub = index.logs.iter().filter(|((log, _), _)| *log == Log::Hub);
        let mut counts = Self {
            ops: index.ops.len(),
            events: index.ops.values().map(|op| op.events.len()).sum(),
            stored: of_the_hub.map(|(_, entries)| entries.len()).sum(),
            in_doubt: index.ops.values().filter(|op| op.was_in_doubt()).count(),
            ..Self::default()
        };
        let mut attempt = |word: &str| *counts.attempts.entry(word.to_owned()).or_default() += 1;
        for record in records {
            match &record.what {
                What::Answered { outcome, .. } => match outcome {
                    Outcome::Persisted { .. } => attempt("persisted"),
                    Outcome::Duplicate { .. } => attempt("duplicate"),
                    Outcome::Spooled => attempt("spooled"),
                    Outcome::Accepted => attempt("accepted"),
                    Outcome::Refused { code } => attempt(code),
                },
                What::Unknown { .. } => attempt("unknown"),
                What::Unreached { .. } => attempt("unreached"),
                What::Received { .. } => counts.received += 1,
                What::Connected { .. } => counts.connections += 1,
                What::Gap { .. } => counts.gaps += 1,
                What::FaultBegun { name, .. } => {
                    *counts.faults.entry(name.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        counts
    }
}
