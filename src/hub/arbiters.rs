//! The threads that actors run on. A run always lands on the same one; the supervisor has one of its own.
//! A thread that is stuck is left to itself and another takes its place.

use crate::event::RunId;
use actix::{Arbiter, ArbiterHandle};
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use xxhash_rust::xxh3::xxh3_64;

/// The actors' threads.
pub(super) struct Arbiters {
    /// The last one is the supervisor's.
    arbiters: Vec<Mutex<Arbiter>>,
}

impl Arbiters {
    /// One thread a processor, up to eight, and one for the supervisor.
    pub(super) fn start() -> Self {
        Self { arbiters: (0..threads()).map(|_| Mutex::new(Arbiter::new())).collect() }
    }

    /// The threads that runs are spread over.
    pub(super) fn count(&self) -> usize {
        self.arbiters.len() - 1
    }

    /// The number of the supervisor's thread, which is the greatest.
    pub(super) fn supervisors(&self) -> usize {
        self.arbiters.len() - 1
    }

    /// The number of the thread that a run's actors live on.
    pub(super) fn number_of(&self, run: &RunId) -> usize {
        shard_of(run, self.count())
    }

    /// The thread of this number.
    pub(super) fn handle(&self, number: usize) -> ArbiterHandle {
        self.arbiters[number % self.arbiters.len()].lock().handle()
    }

    /// Puts another thread in the place of this one, which ends by itself when it can.
    pub(super) fn replace(&self, number: usize) {
        let new = Arbiter::new();
        std::mem::replace(&mut *self.arbiters[number].lock(), new).stop();
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        for arbiter in &self.arbiters {
            arbiter.lock().stop();
        }
    }
}

/// How many threads there are in a hub.
pub(crate) fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    processors.clamp(1, 8) + 1
}

/// Which of `count` shards a run belongs to.
pub(super) fn shard_of(run: &RunId, count: usize) -> usize {
    let hash = xxh3_64(run.as_str().as_bytes());
    usize::try_from(hash % (count.max(1) as u64)).unwrap_or(0)
}
