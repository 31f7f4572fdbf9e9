//! The list of runs, which is on one server, of runs that are on all of them.

use super::Cluster;
use crate::event::RunId;
use crate::store::redis::keys::RUNS;
use crate::store::redis::listing::Listing;
use crate::store::redis::server::Server;
use crate::store::{LogStore, PublishOutcome, RunAppend, RunState, StoreError};
use futures::future::join_all;
use redis::{Cmd, Value};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long the list of runs may take to be told before others go on without that.
pub(super) const LISTING: Duration = Duration::from_millis(200);
/// Between rounds of telling the list who was active, and after one that failed.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);
const AFTER_A_FAILED_ROUND: Duration = Duration::from_millis(500);
/// How often it is seen whether the store is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Runs that the list is told of in one command.
const RUNS_A_COMMAND: usize = 500;

impl Cluster {
    /// Lists runs before their first events are there, so that none is there that is not listed. A list that does not
    /// answer is told afterwards.
    pub(super) async fn list_before(&self, appends: &[RunAppend]) {
        let runs = self.marks.unlisted(appends.iter().map(|append| &append.run));
        if runs.is_empty() {
            return;
        }
        // Where it belongs on the list is known, by the server's clock, when it has its event; where it is already, it
        // stays. Somebody may find nothing of it before that, and take it off again: so that is told in any case.
        let runs: Vec<_> = runs.into_iter().map(|run| (run, 0)).collect();
        if matches!(timeout(LISTING, self.list(&runs)).await, Ok(Ok(()))) {
            self.marks.told(&runs);
        } else {
            runs.iter().for_each(|(run, at)| self.is_active(run, *at));
        }
    }

    /// Sees to it that the list will know when a run got its last event.
    pub(super) fn tell_of(&self, run: &RunId, outcomes: &[PublishOutcome]) {
        let stored = outcomes.iter().filter_map(|outcome| match outcome {
            PublishOutcome::Stored(placed) => placed.iter().map(|placed| placed.id.ms).max(),
            PublishOutcome::Already | PublishOutcome::KeyReused { .. } => None,
        });
        if let Some(at) = stored.max() {
            self.is_active(run, at);
        }
    }

    fn is_active(&self, run: &RunId, at: u64) {
        if self.marks.active(run, at) {
            self.due.notify_one();
        }
    }

    /// Puts runs on the list, or tells it that they were active.
    async fn list(&self, runs: &[(RunId, u64)]) -> Result<(), StoreError> {
        for runs in runs.chunks(RUNS_A_COMMAND) {
            let mut command = redis::cmd("ZADD");
            command.arg(RUNS).arg("GT");
            for (run, at) in runs {
                command.arg(at).arg(run.as_str());
            }
            self.change_list(command).await?;
        }
        Ok(())
    }

    async fn change_list(&self, command: Cmd) -> Result<Value, StoreError> {
        self.on_server_of_list(|server| {
            let command = command.clone();
            async move { server.inner.writes.command(command).await }
        })
        .await
    }

    /// Tells the list what it does not know yet.
    pub(super) async fn tell_list(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.telling.lock().await;
        let due = self.marks.due();
        self.list(&due).await?;
        self.marks.told(&due);
        Ok(())
    }

    /// Takes runs off the list of which nothing is kept. Answers how many.
    pub(super) async fn unlist(&self, runs: Vec<RunId>) -> Result<usize, StoreError> {
        if runs.is_empty() {
            return Ok(0);
        }
        let mut command = redis::cmd("ZREM");
        command.arg(RUNS);
        for run in &runs {
            self.marks.gone(run);
            command.arg(run.as_str());
        }
        self.change_list(command).await?;
        // One may have begun again meanwhile, by whoever takes it to be listed: to ask for it lists it. Where that cannot
        // be known it is listed, and the next sweep looks again.
        let kept = self.kept(&runs).await.unwrap_or_else(|_| vec![true; runs.len()]);
        let again = runs.iter().zip(kept).filter(|(_, kept)| *kept).map(|(run, _)| run);
        let mut count = 0;
        for run in again {
            count += 1;
            if self.state(run).await.is_err() {
                self.is_active(run, 0);
            }
        }
        Ok(runs.len() - count)
    }

    /// How a run stands. What others have written to it the list is told of.
    pub(super) async fn state(&self, run: &RunId) -> Result<RunState, StoreError> {
        let ask = move |server: Server| async move { server.run(run).await };
        let state = self.on_server_of_run(run, ask).await?;
        if let RunState::Known(info) = &state {
            self.is_active(run, info.updated_ms);
        }
        Ok(state)
    }

    /// Of each run whether anything is kept.
    async fn kept(&self, runs: &[RunId]) -> Result<Vec<bool>, StoreError> {
        let asked = runs.iter().map(|run| {
            self.on_server_of_run(run, move |server| async move { server.keeps(run).await })
        });
        let kept = join_all(asked).await.into_iter();
        // What is moving is somewhere.
        kept.map(|kept| match kept {
            Err(StoreError::RunMoves { .. }) => Ok(true),
            other => other,
        })
        .collect()
    }
}

/// Tells the list of runs until the store is gone.
pub(super) async fn keep_telling(cluster: Weak<Cluster>, due: Arc<Notify>) {
    loop {
        let wanted = timeout(LOOK_EVERY, due.notified()).await.is_ok();
        let Some(cluster) = cluster.upgrade() else { return };
        if !wanted {
            continue;
        }
        let pause = match cluster.tell_list().await {
            Ok(()) => BETWEEN_ROUNDS,
            Err(error) => {
                log::debug!("could not tell the list of runs who was active: {error}");
                due.notify_one();
                AFTER_A_FAILED_ROUND
            }
        };
        drop(cluster);
        tokio::time::sleep(pause).await;
    }
}

impl Listing for Cluster {
    fn servers(&self) -> Vec<Server> {
        self.layout().servers.values().cloned().collect()
    }

    async fn ask_list(&self, question: Cmd) -> Result<Value, StoreError> {
        self.on_server_of_list(|server| {
            let question = question.clone();
            async move { server.inner.reads.command(question).await }
        })
        .await
    }

    fn are_unlisted(&self, runs: &[RunId]) {
        runs.iter().for_each(|run| self.marks.gone(run));
    }

    async fn states(&self, runs: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let asked = join_all(runs.iter().map(|run| self.state(run))).await.into_iter();
        // A run that is broken, or just moving, is left out of lists, not the others with it.
        asked
            .map(|state| match state {
                Err(StoreError::BrokenRun { .. } | StoreError::RunMoves { .. }) => {
                    Ok(RunState::Unknown)
                }
                other => other,
            })
            .collect()
    }

    async fn forget(&self, runs: &[RunId]) -> Result<usize, StoreError> {
        let kept = self.kept(runs).await?;
        let gone = runs.iter().zip(kept).filter(|(_, kept)| !kept);
        self.unlist(gone.map(|(run, _)| run.clone()).collect()).await
    }
}
