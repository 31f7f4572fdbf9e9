//! Which stream holds a run's events: the run's own, or, where those are served, a job's.
//!
//! The run's own stream wins, whatever is kept under its key; then `job_events:7`, then `job:7`, where they
//! are streams. A run of which nothing is there yet will have its own. Only that a run has its own stream is
//! remembered, because nothing can win over that; it is forgotten when the stream turns out to hold
//! nothing. A job's stream is looked for each time, so that the run's own wins as soon as it is there.

use super::keys::{Keys, StreamKey};
use super::link::{Link, checked, odd};
use super::reply;
use crate::event::RunId;
use crate::store::StoreError;
use parking_lot::Mutex;
use redis::{Pipeline, Value};
use std::collections::HashSet;
use std::slice;

/// The most runs remembered to have their own stream.
const REMEMBERED: usize = 10_000;

/// Finds the streams of runs.
pub(super) struct Streams {
    keys: Keys,
    serves_jobs: bool,
    reads: Link,
    /// Runs that had their own stream when it was last looked for.
    own: Mutex<HashSet<RunId>>,
}

impl Streams {
    pub(super) fn new(keys: Keys, serves_jobs: bool, reads: Link) -> Self {
        Self { keys, serves_jobs, reads, own: Mutex::default() }
    }

    pub(super) fn serves_jobs(&self) -> bool {
        self.serves_jobs
    }

    /// The stream of a run.
    pub(super) async fn of(&self, run: &RunId) -> Result<StreamKey, StoreError> {
        if !self.serves_jobs || self.own.lock().contains(run) {
            return Ok(self.keys.stream(run));
        }
        let mut found = self.look_for(slice::from_ref(run)).await?;
        found.pop().ok_or_else(|| odd("expected a stream"))
    }

    /// The stream to ask instead of this one, which was found to hold nothing.
    pub(super) async fn instead_of(
        &self,
        empty: &StreamKey,
        run: &RunId,
    ) -> Result<Option<StreamKey>, StoreError> {
        if !self.serves_jobs || !self.own.lock().remove(run) {
            return Ok(None);
        }
        let found = self.of(run).await?;
        Ok((found != *empty).then_some(found))
    }

    /// The streams of runs as they are now, one each, in order.
    pub(super) async fn look_for(&self, runs: &[RunId]) -> Result<Vec<StreamKey>, StoreError> {
        if !self.serves_jobs {
            return Ok(runs.iter().map(|run| self.keys.stream(run)).collect());
        }
        let mut types = Pipeline::with_capacity(runs.len() * 3);
        for run in runs {
            types.cmd("TYPE").arg(self.keys.stream(run).name);
            for key in Keys::job_streams(run) {
                types.cmd("TYPE").arg(key.name);
            }
        }
        let types = self.types(&types).await?;
        let found = runs.iter().zip(types.chunks_exact(3)).map(|(run, types)| {
            self.remember(run, reply::text(&types[0])? == "stream");
            if reply::text(&types[0])? != "none" {
                return Ok(self.keys.stream(run));
            }
            let job = streams(Keys::job_streams(run), &types[1..]).next();
            Ok(job.unwrap_or_else(|| self.keys.stream(run)))
        });
        found.collect()
    }

    /// The job streams that are there under the name of this run, served or hidden behind its own.
    pub(super) async fn jobs_of(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let mut types = Pipeline::with_capacity(2);
        for key in Keys::job_streams(run).into_iter().filter(|_| self.serves_jobs) {
            types.cmd("TYPE").arg(key.name);
        }
        let types = self.types(&types).await?;
        Ok(streams(Keys::job_streams(run), &types).map(|key| key.name).collect())
    }

    async fn types(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.reads.pipeline(commands).await?.into_iter().map(checked).collect()
    }

    fn remember(&self, run: &RunId, has_own: bool) {
        let mut own = self.own.lock();
        if !has_own {
            own.remove(run);
            return;
        }
        if own.len() >= REMEMBERED {
            // What is still wanted is soon found again.
            own.clear();
        }
        own.insert(run.clone());
    }
}

/// Those of the keys whose type is a stream's.
fn streams<const N: usize>(
    keys: [StreamKey; N],
    types: &[Value],
) -> impl Iterator<Item = StreamKey> {
    let is_stream = |kind: &Value| matches!(reply::text(kind), Ok("stream"));
    keys.into_iter().zip(types).filter(move |(_, kind)| is_stream(kind)).map(|(key, _)| key)
}
