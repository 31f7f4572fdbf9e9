//! The names of a run's keys, CONTRACT section 4.

use crate::config::KeyStyle;
use crate::event::RunId;

/// The sorted set of runs by last activity.
pub(super) const RUNS: &str = "runs";

/// The names of all keys of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys(pub(super) KeyStyle);

impl Keys {
    pub(super) fn stream(self, run: &RunId) -> String {
        self.key(run, "events")
    }

    pub(super) fn meta(self, run: &RunId) -> String {
        self.key(run, "meta")
    }

    /// The base of the keys that hold the `event_id` index; a script appends the generation.
    pub(super) fn index(self, run: &RunId) -> String {
        self.key(run, "event_ids")
    }

    fn key(self, run: &RunId, part: &str) -> String {
        match self.0 {
            KeyStyle::Plain => format!("run:{run}:{part}"),
            KeyStyle::Tagged => format!("run:{{{run}}}:{part}"),
        }
    }
}
