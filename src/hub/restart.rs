//! When a dead actor is replaced: at once, unless it keeps dying.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A life this long is no part of a series of deaths.
const STEADY: Duration = Duration::from_secs(30);

/// The deaths of one actor, lately.
#[derive(Debug, Default)]
pub struct RestartBudget {
    deaths: u32,
    last: Option<Instant>,
}

impl RestartBudget {
    /// The actor died now: how long to wait before it is replaced. The first death costs nothing, each
    /// further one twice the last, up to ten seconds. It is never given up.
    pub fn died(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= STEADY) {
            self.deaths = 0;
        }
        self.last = Some(now);
        self.deaths = self.deaths.saturating_add(1);
        match self.deaths {
            1 => Duration::ZERO,
            more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(LONGEST_PAUSE),
        }
    }

    /// Whether a death now would still count in the series.
    pub fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < STEADY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_deaths_is_slowed_down_and_forgotten_after_a_steady_life() {
        let (mut budget, start) = (RestartBudget::default(), Instant::now());
        assert_eq!(budget.died(start), Duration::ZERO);
        assert_eq!(budget.died(start), FIRST_PAUSE);
        assert_eq!(budget.died(start), FIRST_PAUSE * 2);
        for _ in 0..100 {
            budget.died(start);
        }
        assert_eq!(budget.died(start), LONGEST_PAUSE);
        assert!(budget.is_recent(start + STEADY / 2) && !budget.is_recent(start + STEADY));
        assert_eq!(budget.died(start + STEADY), Duration::ZERO);
    }
}
