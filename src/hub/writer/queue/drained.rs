//! What became of what was read from the spool.

use super::Queue;
use crate::event::RunId;
use crate::store::StoreError;
use crate::telemetry::metrics;
use std::sync::Arc;
use std::time::Instant;

impl Queue {
    /// `taken` publishes of a run, read from the spool, are about to be sent.
    pub(in crate::hub::writer) fn drain_begins(&self, run: &RunId, taken: usize) {
        self.state.lock().backlog.taken(run, taken, self.spool.waiting(run));
    }

    /// What became of a run's publishes from the spool, the last of them at `seq`.
    pub(in crate::hub::writer) fn drain_ended(
        self: &Arc<Self>,
        run: &RunId,
        drained: Option<(u64, usize)>,
        result: &Result<(), StoreError>,
    ) {
        let mut state = self.state.lock();
        match (result, drained) {
            (Ok(()), drained) => {
                if let Some((seq, events)) = drained {
                    self.spool.drained(run, seq);
                    metrics::drained(events as u64);
                }
                state.backlog.drained(run, self.spool.waiting(run));
            }
            (Err(error), _) if error.is_the_stores() => state.backlog.not_drained(run),
            (Err(error), _) if error.is_transient() => {
                state.backlog.let_be(run, Instant::now());
                // What has come meanwhile waited for the end of this.
                self.spill(&mut state, |other| other == run);
            }
            (Err(error), _) => {
                if state.backlog.park(run, Instant::now(), Some(error.clone())) {
                    log::error!(
                        "run {run} keeps its events in the spool until its store can serve it: {error}"
                    );
                }
            }
        }
    }

    /// The disk does not give what the spool has of a run.
    pub(in crate::hub::writer) fn cannot_be_read(&self, run: &RunId, error: &std::io::Error) {
        if self.state.lock().backlog.park(run, Instant::now(), None) {
            log::error!(
                "run {run} keeps its events in the spool, which cannot be read just now: {error}"
            );
        }
    }

    /// These runs had no part in a drain, for which what came before them was enough.
    pub(in crate::hub::writer) fn put_off(&self, runs: &[RunId]) {
        if !runs.is_empty() {
            self.state.lock().backlog.put_off(runs);
        }
    }
}
