//! Which runs of a shard have publishes in the spool, and whose turn it is to be drained. Whatever is
//! published to such a run goes behind what is spooled. Pure: the spool has the publishes.

use crate::event::RunId;
use crate::store::StoreError;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How long a run that its store cannot serve is let be before it is tried again, and one that it cannot serve for the
/// moment.
const PARKED_FOR: Duration = Duration::from_secs(5);
const LET_BE_FOR: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Backlog {
    runs: HashMap<RunId, Behind>,
    /// Each run once; the one whose turn it is comes first.
    turns: VecDeque<RunId>,
}

#[derive(Debug, Default)]
struct Behind {
    /// Publishes on their way to the disk.
    unwritten: usize,
    /// All that is spooled of the run is on its way to the store: what is published now may wait for that
    /// in memory.
    last_call: bool,
    /// It could not be drained; until then it is not tried again.
    parked_until: Option<Instant>,
    /// Why the store could not serve the run.
    broken: Option<StoreError>,
}

impl Backlog {
    /// Whether what is published to the run must wait.
    pub(super) fn holds(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Whether what is published to the run must be spooled.
    pub(super) fn must_spool(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|behind| !behind.last_call)
    }

    /// Why the store cannot serve the run, if it could not when it was last drained.
    pub(super) fn broken(&self, run: &RunId) -> Option<&StoreError> {
        self.runs.get(run)?.broken.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether runs wait that the store can serve.
    pub(super) fn has_hope(&self) -> bool {
        self.runs.values().any(|behind| behind.parked_until.is_none())
    }

    /// The run has something on the disk, since an earlier life of the hub.
    pub(super) fn found(&mut self, run: &RunId) {
        self.entry(run);
    }

    /// A publish of the run is on its way to the disk.
    pub(super) fn add(&mut self, run: &RunId) {
        let behind = self.entry(run);
        behind.unwritten += 1;
        behind.last_call = false;
    }

    fn entry(&mut self, run: &RunId) -> &mut Behind {
        if !self.runs.contains_key(run) {
            self.turns.push_back(run.clone());
        }
        self.runs.entry(run.clone()).or_default()
    }

    /// A publish of the run is on the disk, or will not be; `on_disk` are there now.
    pub(super) fn written(&mut self, run: &RunId, on_disk: usize) {
        if let Some(behind) = self.runs.get_mut(run) {
            behind.unwritten = behind.unwritten.saturating_sub(1);
        }
        self.forget_if_done(run, on_disk);
    }

    /// The next runs to drain.
    pub(super) fn next(&mut self, now: Instant, most: usize) -> Vec<RunId> {
        let mut next = Vec::new();
        for _ in 0..self.turns.len() {
            let Some(run) = self.turns.pop_front() else { break };
            let Some(behind) = self.runs.get(&run) else { continue };
            let ready = behind.parked_until.is_none_or(|until| until <= now);
            self.turns.push_back(run.clone());
            if ready {
                next.push(run);
            }
            if next.len() == most {
                break;
            }
        }
        next
    }

    /// There was no room for these in what was drained: they are the next.
    pub(super) fn put_off(&mut self, runs: &[RunId]) {
        let put_off: HashSet<&RunId> = runs.iter().collect();
        self.turns.retain(|run| !put_off.contains(run));
        for run in runs.iter().rev().filter(|run| self.runs.contains_key(run)) {
            self.turns.push_front(run.clone());
        }
    }

    /// `taken` publishes of the run are about to be sent; `on_disk` are there.
    pub(super) fn taken(&mut self, run: &RunId, taken: usize, on_disk: usize) {
        if let Some(behind) = self.runs.get_mut(run) {
            behind.last_call = behind.unwritten == 0 && taken == on_disk;
        }
    }

    /// The store has what was sent; `on_disk` are left.
    pub(super) fn drained(&mut self, run: &RunId, on_disk: usize) {
        if let Some(behind) = self.runs.get_mut(run) {
            (behind.parked_until, behind.broken) = (None, None);
            behind.last_call = false;
        }
        self.forget_if_done(run, on_disk);
    }

    /// The store did not take what was sent.
    pub(super) fn not_drained(&mut self, run: &RunId) {
        if let Some(behind) = self.runs.get_mut(run) {
            behind.last_call = false;
        }
    }

    /// The run cannot be drained for the moment.
    pub(super) fn let_be(&mut self, run: &RunId, now: Instant) {
        self.not_drained(run);
        if let Some(behind) = self.runs.get_mut(run) {
            behind.parked_until = Some(now + LET_BE_FOR);
        }
    }

    /// The run cannot be drained; if `broken` says so, because the store cannot serve it. True if it could
    /// before.
    pub(super) fn park(&mut self, run: &RunId, now: Instant, broken: Option<StoreError>) -> bool {
        let Some(behind) = self.runs.get_mut(run) else { return false };
        behind.last_call = false;
        let newly_broken = broken.is_some() && behind.broken.is_none();
        behind.broken = broken;
        behind.parked_until.replace(now + PARKED_FOR).is_none() || newly_broken
    }

    fn forget_if_done(&mut self, run: &RunId, on_disk: usize) {
        if on_disk == 0 && self.runs.get(run).is_some_and(|behind| behind.unwritten == 0) {
            self.runs.remove(run);
            self.turns.retain(|other| other != run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId::parse(name).unwrap()
    }

    #[test]
    fn runs_take_turns_and_one_that_is_parked_stops_no_other() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for name in ["a", "b", "c"] {
            backlog.add(&run(name));
            backlog.written(&run(name), 1);
        }
        assert_eq!(backlog.next(now, 2), [run("a"), run("b")]);
        assert_eq!(backlog.next(now, 2), [run("c"), run("a")]);
        let broken = StoreError::BrokenRun { reason: String::new() };
        assert!(backlog.park(&run("b"), now, Some(broken.clone())));
        assert!(!backlog.park(&run("b"), now, Some(broken.clone())));
        assert_eq!((backlog.broken(&run("a")), backlog.broken(&run("b"))), (None, Some(&broken)));
        assert_eq!(backlog.next(now, 9), [run("c"), run("a")]);
        assert_eq!(backlog.next(now + PARKED_FOR, 9).len(), 3);
        backlog.let_be(&run("a"), now);
        assert_eq!(backlog.next(now, 9), [run("c")]);
        assert_eq!(backlog.next(now + LET_BE_FOR, 9).len(), 2);
        backlog.drained(&run("a"), 0);
        backlog.drained(&run("c"), 0);
        assert!(!backlog.is_empty() && !backlog.has_hope());
        assert!(backlog.must_spool(&run("b")) && !backlog.holds(&run("a")));
        backlog.drained(&run("b"), 0);
        assert!(backlog.is_empty() && backlog.turns.is_empty());
    }

    #[test]
    fn runs_for_which_there_was_no_room_come_next() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for name in ["a", "b", "c", "d"] {
            backlog.add(&run(name));
        }
        assert_eq!(backlog.next(now, 3), [run("a"), run("b"), run("c")]);
        backlog.put_off(&[run("b"), run("gone"), run("c")]);
        assert_eq!(backlog.next(now, 9), [run("b"), run("c"), run("d"), run("a")]);
    }

    #[test]
    fn only_behind_the_last_of_a_run_may_one_wait_in_memory() {
        let (mut backlog, r) = (Backlog::default(), run("r"));
        backlog.add(&r);
        backlog.taken(&r, 1, 1);
        assert!(backlog.must_spool(&r), "one is still on its way to the disk");
        backlog.written(&r, 2);
        backlog.taken(&r, 1, 2);
        assert!(backlog.must_spool(&r), "one more is there");
        backlog.taken(&r, 2, 2);
        assert!(!backlog.must_spool(&r) && backlog.holds(&r));
        backlog.not_drained(&r);
        assert!(backlog.must_spool(&r));
        backlog.add(&r);
        backlog.drained(&r, 0);
        assert!(backlog.holds(&r), "one is still on its way to the disk");
        backlog.written(&r, 0);
        assert!(!backlog.holds(&r));
    }
}
