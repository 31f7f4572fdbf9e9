//! What the spool knows in memory: where each run's records are, oldest first, and what each segment
//! holds. A record takes some 40 bytes here, however large it is on the disk.

use crate::event::RunId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// One publish on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Rises over all runs.
    pub(super) seq: u64,
    pub(super) published_ms: u64,
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) events: u32,
}

/// One file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Its length on the disk.
    pub(super) bytes: u64,
    /// Records in it that are not drained, and their bytes.
    pub(super) live: usize,
    pub(super) live_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    runs: HashMap<RunId, VecDeque<Entry>>,
    pub(super) segments: BTreeMap<u32, Segment>,
    events: u64,
}

impl Index {
    /// Adds a record that is on the disk. It comes behind all of its run, but where it was moved.
    pub(super) fn insert(&mut self, run: &RunId, entry: Entry) {
        if let Some(segment) = self.segments.get_mut(&entry.segment) {
            segment.live += 1;
            segment.live_bytes += u64::from(entry.length);
        }
        self.events += u64::from(entry.events);
        let entries = self.runs.entry(run.clone()).or_default();
        let at = entries.partition_point(|earlier| earlier.seq < entry.seq);
        entries.insert(at, entry);
    }

    /// The run's record of this number.
    pub(super) fn find(&self, run: &RunId, seq: u64) -> Option<Entry> {
        let entries = self.runs.get(run)?;
        entries.binary_search_by_key(&seq, |entry| entry.seq).ok().map(|at| entries[at])
    }

    /// How many records the run has.
    pub(super) fn count(&self, run: &RunId) -> usize {
        self.runs.get(run).map_or(0, VecDeque::len)
    }

    /// Forgets a run's records up to this one.
    pub(super) fn drain(&mut self, run: &RunId, up_to: u64) {
        let Some(entries) = self.runs.get_mut(run) else { return };
        while let Some(entry) = entries.front().copied().filter(|entry| entry.seq <= up_to) {
            entries.pop_front();
            self.events -= u64::from(entry.events);
            if let Some(segment) = self.segments.get_mut(&entry.segment) {
                segment.live -= 1;
                segment.live_bytes -= u64::from(entry.length);
            }
        }
        if entries.is_empty() {
            self.runs.remove(run);
        }
    }

    /// The oldest records of a run, within bounds; at least one, if there is any.
    pub(super) fn oldest(&self, run: &RunId, events: usize, bytes: usize) -> Vec<Entry> {
        let (mut taken, mut left_events, mut left_bytes) = (Vec::new(), events, bytes);
        for entry in self.runs.get(run).into_iter().flatten() {
            let (events, bytes) = (entry.events as usize, entry.length as usize);
            if !taken.is_empty() && (events > left_events || bytes > left_bytes) {
                break;
            }
            left_events = left_events.saturating_sub(events);
            left_bytes = left_bytes.saturating_sub(bytes);
            taken.push(*entry);
        }
        taken
    }

    /// The records in a segment that are not drained, in order.
    pub(super) fn in_segment(&self, segment: u32) -> Vec<(RunId, Entry)> {
        let of_run = |(run, entries): (&RunId, &VecDeque<Entry>)| {
            let here = entries.iter().filter(|entry| entry.segment == segment);
            here.map(|entry| (run.clone(), *entry)).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = self.runs.iter().flat_map(of_run).collect();
        found.sort_by_key(|(_, entry)| entry.seq);
        found
    }

    /// A record was copied to another place.
    pub(super) fn moved(&mut self, run: &RunId, to: Entry) {
        let Some(entries) = self.runs.get_mut(run) else { return };
        let Ok(at) = entries.binary_search_by_key(&to.seq, |entry| entry.seq) else { return };
        let from = std::mem::replace(&mut entries[at], to);
        if let Some(segment) = self.segments.get_mut(&from.segment) {
            segment.live -= 1;
            segment.live_bytes -= u64::from(from.length);
        }
        if let Some(segment) = self.segments.get_mut(&to.segment) {
            segment.live += 1;
            segment.live_bytes += u64::from(to.length);
        }
    }

    /// How many publishes of each run wait.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&RunId, usize)> {
        self.runs.iter().map(|(run, entries)| (run, entries.len()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Events that wait.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// When the oldest of them was published.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.runs.values().filter_map(|e| e.front()).map(|entry| entry.published_ms).min()
    }

    /// Bytes of all segments.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Bytes of the records that are not drained.
    pub(super) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }
}
