//! What of the runs is listed, and what has still to be. In a cluster the list of runs is on one server and a run on
//! another, so both cannot be written in one step. A run is listed before its first event is appended, so that none
//! is there that the list does not know; when it was last active the list is told afterwards, in rounds.

use crate::event::RunId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// The most runs that are remembered to be listed, and that wait to be. Beyond that the next event tells again.
const MOST: usize = 100_000;

/// See the module. Times are in ms since the Unix epoch.
#[derive(Default)]
pub(super) struct Marks(Mutex<State>);

#[derive(Default)]
struct State {
    /// When the list was last told that they were active.
    listed: HashMap<RunId, u64>,
    /// When they were, of which the list is to be told.
    due: HashMap<RunId, u64>,
}

impl Marks {
    /// Those of the runs of which it is not known that they are listed, or are to be.
    pub(super) fn unlisted<'a>(&self, runs: impl Iterator<Item = &'a RunId>) -> Vec<RunId> {
        let state = self.0.lock();
        let is_known = |run: &RunId| state.listed.contains_key(run) || state.due.contains_key(run);
        runs.filter(|run| !is_known(run)).cloned().collect()
    }

    /// A run was active. True if the list is to be told.
    pub(super) fn active(&self, run: &RunId, at: u64) -> bool {
        let mut state = self.0.lock();
        if state.listed.get(run).is_some_and(|told| *told >= at) {
            return false;
        }
        if let Some(due) = state.due.get_mut(run) {
            *due = at.max(*due);
        } else if state.due.len() < MOST {
            state.due.insert(run.clone(), at);
        }
        true
    }

    /// What the list is to be told.
    pub(super) fn due(&self) -> Vec<(RunId, u64)> {
        self.0.lock().due.iter().map(|(run, at)| (run.clone(), *at)).collect()
    }

    /// The list was told of these.
    pub(super) fn told(&self, runs: &[(RunId, u64)]) {
        let mut state = self.0.lock();
        let new = runs.iter().filter(|(run, _)| !state.listed.contains_key(run)).count();
        if state.listed.len() + new > MOST {
            state.listed.clear();
        }
        for (run, at) in runs {
            if state.due.get(run).is_some_and(|due| due <= at) {
                state.due.remove(run);
            }
            let listed = state.listed.entry(run.clone()).or_default();
            *listed = (*at).max(*listed);
        }
    }

    /// The list may not have what it was told.
    pub(super) fn forget(&self) {
        self.0.lock().listed.clear();
    }

    /// A run is gone.
    pub(super) fn gone(&self, run: &RunId) {
        let mut state = self.0.lock();
        state.listed.remove(run);
        state.due.remove(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_told_of_what_it_does_not_know() {
        let (marks, run) = (Marks::default(), RunId::parse("7").unwrap());
        let unlisted = || marks.unlisted([&run].into_iter()).len();
        assert_eq!(unlisted(), 1);
        assert!(marks.active(&run, 5) && marks.active(&run, 4));
        let due = marks.due();
        assert_eq!((due.as_slice(), unlisted()), (&[(run.clone(), 5)][..], 0));
        assert!(marks.active(&run, 6));
        marks.told(&due);
        assert_eq!(marks.due(), [(run.clone(), 6)], "more came while the list was told");
        marks.told(&marks.due());
        assert_eq!(
            (marks.due().len(), marks.active(&run, 6), marks.active(&run, 7)),
            (0, false, true)
        );
        marks.gone(&run);
        assert_eq!((unlisted(), marks.due().len()), (1, 0));
        marks.told(&[(run.clone(), 8)]);
        marks.forget();
        assert_eq!(unlisted(), 1);
    }
}
