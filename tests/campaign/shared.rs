//! What all who take part in a campaign have in common.

use crate::history::{EventId, Recorder, What};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub struct Shared {
    pub recorder: Recorder,
    /// Of the hub that has the faults, and of another one where there is one.
    ports: (u16, Option<u16>),
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
    pub fn new(
        recorder: Recorder,
        ports: (u16, Option<u16>),
        runs: usize,
        publishers: usize,
    ) -> Self {
        Self {
            recorder,
            ports,
            runs: (0..runs).map(|run| format!("run-{run}")).collect(),
            ops: AtomicU64::new(0),
            stop_publishing: AtomicBool::new(false),
            give_up: AtomicBool::new(false),
            stop_reading: AtomicBool::new(false),
            publishing: AtomicUsize::new(publishers),
            tails: Mutex::default(),
        }
    }

    /// Of the hub that has the faults.
    pub fn port(&self) -> u16 {
        self.ports.0
    }

    /// Of the hub that this number falls to.
    pub fn port_of(&self, number: usize) -> u16 {
        match self.ports.1 {
            Some(other) if number % 3 == 2 => other,
            _ => self.ports.0,
        }
    }

    /// Of all hubs.
    pub fn all_ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.ports.0).chain(self.ports.1)
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

/// Says that a publisher has ended, in a panic too: others wait for it.
pub struct Leaver<'a>(pub &'a Shared);

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a panic said.
pub fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
