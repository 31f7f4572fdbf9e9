//! The newest batches of a run, for subscribers that are only a little behind: they need not go to the
//! store.

use crate::event::{EncodedBatch, EventId};
use std::collections::VecDeque;
use std::sync::Arc;

const MAX_BATCHES: usize = 16;
const MAX_BYTES: usize = 64 << 10;

/// Consecutive batches, oldest first.
#[derive(Default)]
pub(super) struct Ring {
    batches: VecDeque<Arc<EncodedBatch>>,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, batch: Arc<EncodedBatch>) {
        if self.batches.back().is_some_and(|last| last.last != batch.prev) {
            self.clear();
        }
        self.bytes += batch.size();
        self.batches.push_back(batch);
        while self.batches.len() > MAX_BATCHES || self.bytes > MAX_BYTES {
            match self.batches.pop_front() {
                Some(oldest) => self.bytes -= oldest.size(),
                None => break,
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// The batches behind a position; none if the ring does not reach back that far.
    pub(super) fn since(&self, cursor: EventId) -> impl Iterator<Item = &Arc<EncodedBatch>> {
        let reaches = self.batches.front().is_some_and(|oldest| oldest.prev <= cursor);
        self.batches.iter().filter(move |batch| reaches && batch.last > cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ReadRules, RunId, decode_entry};

    fn batch(prev: u64, last: u64, size: usize) -> Arc<EncodedBatch> {
        let run = RunId::parse("7").unwrap();
        let data = format!("\"{}\"", "x".repeat(size));
        let field: [(&[u8], &[u8]); 1] = [(b"data", data.as_bytes())];
        let events =
            (prev + 1..=last).map(|n| decode_entry(&run, EventId::new(n, 0), field)).collect();
        Arc::new(EncodedBatch::encode(EventId::new(prev, 0), events, &ReadRules::default()))
    }

    #[test]
    fn it_serves_who_is_within_reach_and_stays_small() {
        let mut ring = Ring::default();
        ring.push(batch(0, 2, 10));
        ring.push(batch(2, 3, 10));
        assert_eq!(ring.since(EventId::new(1, 0)).count(), 2);
        assert_eq!(ring.since(EventId::new(2, 0)).count(), 1);
        assert_eq!(ring.since(EventId::new(3, 0)).count(), 0);
        ring.push(batch(9, 10, 10));
        assert_eq!(ring.since(EventId::new(3, 0)).count(), 0);
        assert_eq!(ring.since(EventId::new(9, 0)).count(), 1);
        for n in 10..200 {
            ring.push(batch(n, n + 1, 20_000));
        }
        assert!(ring.bytes <= MAX_BYTES && ring.batches.len() < 20);
    }
}
