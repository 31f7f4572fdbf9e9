//! The seam between what a subscriber reads from the store and what it hears live. Pure.
//!
//! The one rule: a live batch is taken only if nothing lies between the cursor and it, which its `prev`
//! tells. Whatever else happens, in whatever order, the worst is one more read of the store.

use crate::event::{EventId, Sequence};

/// Where a subscriber stands.
#[derive(Debug)]
pub(super) struct Seam {
    /// Everything up to here was put into the outbox.
    cursor: EventId,
    /// The greatest position heard of.
    head: EventId,
    phase: Phase,
    /// What was heard of when the read under way began.
    head_then: EventId,
    /// The read under way began before a reset; its page is to be thrown away.
    stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes live batches.
    Live,
    /// A read of the store is under way, or about to be.
    Reading,
    /// Behind, and without room for more.
    Waiting,
}

/// What to do with a live batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnBatch {
    /// Put its events behind the cursor into the outbox.
    Deliver,
    /// Nothing: it is known, or will be read.
    Ignore,
    /// Read the store: something lies before it.
    Read,
}

/// What to do after a page was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterPage {
    Read,
    WaitForRoom,
    Live,
}

impl Seam {
    pub(super) fn new(cursor: EventId) -> Self {
        Self { cursor, head: cursor, phase: Phase::Live, head_then: cursor, stale: false }
    }

    pub(super) fn cursor(&self) -> EventId {
        self.cursor
    }

    /// The number before the first event, if the cursor lies before every event.
    pub(super) fn sequence_before_all(cursor: EventId) -> Option<Sequence> {
        (cursor == EventId::START).then_some(Sequence(0))
    }

    /// Begins, the run being known to reach up to `head`. True if the store is to be read.
    pub(super) fn begin(&mut self, head: EventId, must_read: bool) -> bool {
        self.head = self.head.max(head);
        let read = must_read || self.cursor < self.head;
        if read {
            self.phase = Phase::Reading;
        }
        read
    }

    pub(super) fn on_batch(&mut self, prev: EventId, last: EventId) -> OnBatch {
        self.head = self.head.max(last);
        match self.phase {
            Phase::Live if last <= self.cursor => OnBatch::Ignore,
            Phase::Live if prev <= self.cursor => OnBatch::Deliver,
            Phase::Live => {
                self.phase = Phase::Reading;
                OnBatch::Read
            }
            Phase::Reading | Phase::Waiting => OnBatch::Ignore,
        }
    }

    /// The run has been broadcast up to `position`. True if the store is to be read.
    pub(super) fn on_reached(&mut self, position: EventId) -> bool {
        self.head = self.head.max(position);
        let read = self.phase == Phase::Live && self.cursor < self.head;
        if read {
            self.phase = Phase::Reading;
        }
        read
    }

    /// A read of the store begins now, behind the position that this gives.
    pub(super) fn read_begins(&mut self) -> EventId {
        self.head_then = self.head;
        self.cursor
    }

    /// Whether the page that has just come is to be thrown away and the store read again.
    pub(super) fn page_is_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Everything up to `last` is in the outbox.
    pub(super) fn delivered(&mut self, last: EventId) {
        self.cursor = self.cursor.max(last);
        self.head = self.head.max(last);
    }

    /// A page was delivered.
    pub(super) fn after_page(&mut self, empty: bool, more: bool, full: bool) -> AfterPage {
        if empty && !more && self.head <= self.head_then {
            // What was heard of before the read is not there any more; waiting for it would be in vain.
            self.head = self.cursor;
        }
        match (more || self.cursor < self.head, full) {
            (true, false) => AfterPage::Read,
            (true, true) => {
                self.phase = Phase::Waiting;
                AfterPage::WaitForRoom
            }
            (false, _) => {
                self.phase = Phase::Live;
                AfterPage::Live
            }
        }
    }

    /// The outbox is full. True if live batches are no longer taken.
    pub(super) fn fall_behind(&mut self) -> bool {
        let was_live = self.phase == Phase::Live;
        if was_live {
            self.phase = Phase::Waiting;
        }
        was_live
    }

    /// There is room again. True if the store is to be read.
    pub(super) fn room(&mut self) -> bool {
        let waited = self.phase == Phase::Waiting;
        if waited {
            self.phase = Phase::Reading;
        }
        waited
    }

    /// Positions begin anew. True if the store is to be read now.
    pub(super) fn reset(&mut self) -> bool {
        self.cursor = EventId::START;
        self.head = EventId::START;
        self.stale = self.phase == Phase::Reading;
        let read = self.phase == Phase::Live;
        if read {
            self.phase = Phase::Reading;
        }
        read
    }

    pub(super) fn is_at_head(&self) -> bool {
        self.phase == Phase::Live && self.cursor >= self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A log that grows, a broadcaster that may lose or repeat batches, a reader that may be slow: however
    /// they interleave, the reader gets each event behind its cursor once, in order.
    #[derive(Debug, Clone)]
    enum Step {
        Append(u8),
        Broadcast,
        LoseBroadcast,
        Repeat(u8),
        FinishRead { page: u8 },
        Fill,
        Room,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u8..5).prop_map(Step::Append),
            Just(Step::Broadcast),
            Just(Step::LoseBroadcast),
            (0_u8..6).prop_map(Step::Repeat),
            (1_u8..6).prop_map(|page| Step::FinishRead { page }),
            Just(Step::Fill),
            Just(Step::Room),
        ]
    }

    fn id(n: u64) -> EventId {
        EventId::new(n, 0)
    }

    struct World {
        seam: Seam,
        log: u64,
        broadcast: u64,
        got: Vec<u64>,
        reading: bool,
        /// The log as the read under way finds it, from its begin on.
        snapshot: u64,
        waiting: bool,
    }

    impl World {
        fn read(&mut self) {
            (self.reading, self.snapshot) = (true, self.log);
            self.seam.read_begins();
        }

        fn take(&mut self, from: u64, to: u64) {
            self.got.extend(from + 1..=to);
            self.seam.delivered(id(to));
        }

        fn batch(&mut self, prev: u64, last: u64) {
            match self.seam.on_batch(id(prev), id(last)) {
                OnBatch::Deliver => self.take(self.seam.cursor().ms, last),
                OnBatch::Read => self.read(),
                OnBatch::Ignore => {}
            }
        }

        fn page(&mut self, size: u64, full: bool) {
            let from = self.seam.cursor().ms;
            let to = (from + size).min(self.snapshot).max(from);
            self.take(from, to);
            self.reading = false;
            match self.seam.after_page(from == to, to < self.snapshot, full) {
                AfterPage::Read => self.read(),
                AfterPage::WaitForRoom => self.waiting = true,
                AfterPage::Live => {}
            }
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Append(n) => self.log += u64::from(n),
                Step::Broadcast if self.log > self.broadcast => {
                    let prev = std::mem::replace(&mut self.broadcast, self.log);
                    self.batch(prev, self.log);
                }
                Step::LoseBroadcast => self.broadcast = self.log,
                Step::Repeat(back) if self.broadcast > 0 => {
                    let prev = self.broadcast.saturating_sub(u64::from(back) + 1);
                    self.batch(prev, self.broadcast);
                }
                Step::FinishRead { page } if self.reading => {
                    self.page(u64::from(page), page % 2 == 0);
                }
                Step::Fill => self.waiting |= self.seam.fall_behind(),
                Step::Room if self.waiting => {
                    self.waiting = false;
                    if self.seam.room() {
                        self.read();
                    }
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_once_and_in_order(
            before in 0_u64..20,
            cursor in 0_u64..20,
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let cursor = cursor.min(before);
            let mut world = World { seam: Seam::new(id(cursor)), log: before, broadcast: before,
                got: Vec::new(), reading: false, snapshot: before, waiting: false };
            if world.seam.begin(id(before), false) {
                world.read();
            }
            for step in &steps {
                world.step(step);
            }
            // Quiet: whatever is under way ends, and one more event is broadcast.
            for _ in 0..200 {
                world.step(&Step::Room);
                world.step(&Step::FinishRead { page: 5 });
            }
            world.step(&Step::Append(1));
            world.step(&Step::Broadcast);
            for _ in 0..200 {
                world.step(&Step::Room);
                world.step(&Step::FinishRead { page: 5 });
            }
            prop_assert_eq!(world.got, (cursor + 1..=world.log).collect::<Vec<_>>());
            prop_assert!(world.seam.is_at_head());
        }
    }

    #[test]
    fn a_reset_throws_the_page_under_way_away() {
        let mut seam = Seam::new(id(5));
        assert!(seam.begin(id(9), false));
        assert!(!seam.reset());
        assert!(seam.page_is_stale() && !seam.page_is_stale());
        assert_eq!(seam.cursor(), EventId::START);
        assert_eq!(seam.after_page(true, false, false), AfterPage::Live);
        assert!(seam.reset());
    }
}
