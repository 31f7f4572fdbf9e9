//! What one subscriber has seen of one run: nothing may be missing, come twice, or come late.

use std::collections::BTreeSet;

#[derive(Clone)]
pub struct Tally {
    next: u32,
    missing: BTreeSet<u32>,
    pub seen: u64,
    pub doubled: u64,
    pub reordered: u64,
}

impl Tally {
    pub fn from(first: u32) -> Self {
        Self { next: first, missing: BTreeSet::new(), seen: 0, doubled: 0, reordered: 0 }
    }

    /// Whether the event is new.
    pub fn note(&mut self, sequence: u32) -> bool {
        if sequence >= self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
        } else if self.missing.remove(&sequence) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
            return false;
        }
        self.seen += 1;
        true
    }

    /// How many never came of a run whose last event is this one.
    pub fn lost(&self, last: u32) -> u64 {
        self.missing.len() as u64 + u64::from((last + 1).saturating_sub(self.next))
    }
}
