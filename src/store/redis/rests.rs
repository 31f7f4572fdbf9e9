//! How long streams rest: those that this process appends to, and whose follower has got what was appended. To
//! read one would only show what others have written meanwhile, so many are looked at together, and one that nobody
//! else has written to for long less often: the next append tells of it anyway.

use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// So many appends in a row, with nobody else's events between, make a stream one that is written to by this
/// process alone.
const ALONE: u32 = 16;

/// What rests, and until when.
pub(super) struct Rests {
    shared: Rounds,
    alone: Rounds,
    resting: BTreeSet<(Instant, u64)>,
}

impl Default for Rests {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            shared: Rounds { least: ms(2), spread: ms(3), end: None },
            // Longer than it takes until the next append to most of those that are followed while they work.
            alone: Rounds { least: ms(110), spread: ms(15), end: None },
            resting: BTreeSet::new(),
        }
    }
}

impl Rests {
    /// The longest that a stream rests after an append.
    #[cfg(test)]
    pub(super) const LONGEST: Duration = Duration::from_millis(125);

    /// Until when a stream rests after so many appends in a row.
    pub(super) fn until(&mut self, in_a_row: u32, now: Instant) -> Instant {
        let rounds = if in_a_row < ALONE { &mut self.shared } else { &mut self.alone };
        rounds.end(now)
    }

    /// It rests now.
    pub(super) fn put(&mut self, until: Instant, number: u64) {
        self.resting.insert((until, number));
    }

    /// It rests no more, if it does until then.
    pub(super) fn remove(&mut self, until: Instant, number: u64) {
        self.resting.remove(&(until, number));
    }

    /// One that has rested, and rests no more.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        self.next().filter(|until| *until <= now)?;
        self.resting.pop_first().map(|(_, number)| number)
    }

    /// When the next one has rested.
    pub(super) fn next(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }
}

/// Ends of rests. Those that begin within `spread` end together, so that they are read together.
struct Rounds {
    least: Duration,
    spread: Duration,
    end: Option<Instant>,
}

impl Rounds {
    fn end(&mut self, now: Instant) -> Instant {
        match self.end {
            Some(end) if end >= now + self.least => end,
            _ => *self.end.insert(now + self.least + self.spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_that_begin_together_end_together_and_longer_ones_delay_none() {
        let (mut rests, start) = (Rests::default(), Instant::now());
        let ms = |n| start + Duration::from_millis(n);
        let ends: Vec<Instant> = [0, 3, 4].map(|at| rests.until(0, ms(at))).into();
        assert_eq!(ends, [ms(5), ms(5), ms(9)]);
        let late = rests.until(ALONE, ms(4));
        assert_eq!(late, start + Duration::from_millis(4) + Rests::LONGEST);
        rests.put(late, 7);
        rests.put(ends[2], 8);
        rests.put(ends[0], 9);
        assert_eq!(rests.next(), Some(ms(5)));
        assert_eq!(
            (rests.take(ms(4)), rests.take(ms(9)), rests.take(ms(9))),
            (None, Some(9), Some(8))
        );
        assert_eq!((rests.take(ms(9)), rests.take(late)), (None, Some(7)));
    }
}
