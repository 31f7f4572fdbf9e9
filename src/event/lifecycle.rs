//! The life of a run as its events tell it: which types end a run, which one starts it again.

use super::EventType;
use std::collections::BTreeMap;
use std::fmt;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RunStatus {
    /// Not ended.
    #[default]
    Running,
    /// Ended by `lifecycle.completed`.
    Completed,
    /// Ended by `lifecycle.failed`.
    Failed,
    /// Ended by `lifecycle.cancelled`.
    Cancelled,
    /// Ended by `lifecycle.finish`, or by another type configured as terminal.
    Finished,
}

impl RunStatus {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Finished];

    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }

    /// The status with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the run is over.
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Running)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an event does to its run's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Takes an end back: `lifecycle.started`.
    Started,
    /// Ends the run with this status.
    Ended(RunStatus),
}

impl Lifecycle {
    /// The status the run has after the event.
    pub const fn status(self) -> RunStatus {
        match self {
            Self::Started => RunStatus::Running,
            Self::Ended(status) => status,
        }
    }
}

/// The type that (re)starts a run.
pub const STARTED: &str = "lifecycle.started";

/// Which types end a run; configurable.
#[derive(Debug, Clone)]
pub struct LifecycleRules(BTreeMap<String, RunStatus>);

impl LifecycleRules {
    /// Rules with these terminal types.
    pub fn new<'a>(terminal: impl IntoIterator<Item = &'a EventType>) -> Self {
        let status = |kind: &EventType| match kind.as_str() {
            "lifecycle.completed" => RunStatus::Completed,
            "lifecycle.failed" => RunStatus::Failed,
            "lifecycle.cancelled" => RunStatus::Cancelled,
            _ => RunStatus::Finished,
        };
        Self(terminal.into_iter().map(|kind| (kind.as_str().to_owned(), status(kind))).collect())
    }

    /// What an event of this type does to its run.
    pub fn of(&self, kind: &EventType) -> Option<Lifecycle> {
        if kind.as_str() == STARTED {
            return Some(Lifecycle::Started);
        }
        self.0.get(kind.as_str()).copied().map(Lifecycle::Ended)
    }

    /// Every terminal type with the status it gives.
    pub fn terminal(&self) -> impl Iterator<Item = (&str, RunStatus)> {
        self.0.iter().map(|(kind, status)| (kind.as_str(), *status))
    }
}

impl Default for LifecycleRules {
    fn default() -> Self {
        let kinds = ["completed", "failed", "cancelled", "finish"];
        let kinds: Vec<_> =
            kinds.iter().filter_map(|a| EventType::from_parts("lifecycle", a).ok()).collect();
        Self::new(&kinds)
    }
}
