//! What all who take part in a campaign have in common.

use crate::history::{EventId, Recorder, What};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub struct Shared {
    pub recorder: Recorder,
    pub port: u16,
    pub runs: Vec<String>,
    /// Publishes so far; their numbers rise in the order they are begun in.
    ops: AtomicU64,
    /// No publish is begun any more.
    pub stop_publishing: AtomicBool,
    /// Publishes that were not taken are not repeated any more.
    pub give_up: AtomicBool,
    pub stop_reading: AtomicBool,
    /// Publishers that have not ended.
    pub publishing: AtomicUsize,
    /// The last id each subscriber has got, by name and run.
    pub tails: Mutex<HashMap<(String, String), EventId>>,
}

impl Shared {
    pub fn new(recorder: Recorder, port: u16, runs: usize, publishers: usize) -> Self {
        Self {
            recorder,
            port,
            runs: (0..runs).map(|run| format!("run-{run}")).collect(),
            ops: AtomicU64::new(0),
            stop_publishing: AtomicBool::new(false),
            give_up: AtomicBool::new(false),
            stop_reading: AtomicBool::new(false),
            publishing: AtomicUsize::new(publishers),
            tails: Mutex::default(),
        }
    }

    pub fn record(&self, what: What) {
        self.recorder.record(what);
    }

    pub fn broken(&self, what: impl Into<String>) {
        self.record(What::Broken { what: what.into() });
    }

    pub fn next_op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Ends everybody when it is dropped, in a panic too.
pub struct Ender<'a>(pub &'a Shared);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        for flag in [&self.0.stop_publishing, &self.0.give_up, &self.0.stop_reading] {
            flag.store(true, Ordering::Release);
        }
    }
}

/// What a panic said.
pub fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
