//! The threads that actors run on. A run always lands on the same one.

use crate::event::RunId;
use actix::{Arbiter, ArbiterHandle};
use std::num::NonZeroUsize;
use xxhash_rust::xxh3::xxh3_64;

/// The actors' threads.
pub(super) struct Arbiters {
    arbiters: Vec<Arbiter>,
}

impl Arbiters {
    /// One thread a processor, up to eight.
    pub(super) fn start() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { arbiters: (0..processors.clamp(1, 8)).map(|_| Arbiter::new()).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.arbiters.len()
    }

    /// The number of the thread that a run's actors live on.
    pub(super) fn number_of(&self, run: &RunId) -> usize {
        shard_of(run, self.arbiters.len())
    }

    pub(super) fn handle(&self, number: usize) -> ArbiterHandle {
        self.arbiters[number % self.arbiters.len()].handle()
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

/// Which of `count` shards a run belongs to.
pub(super) fn shard_of(run: &RunId, count: usize) -> usize {
    let hash = xxh3_64(run.as_str().as_bytes());
    usize::try_from(hash % (count.max(1) as u64)).unwrap_or(0)
}
