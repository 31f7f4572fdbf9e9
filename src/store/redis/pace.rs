//! How much is asked for at a time. What comes back may be large and the way slow, and nobody knows before; an answer
//! that did not come in time would not come in time the next time either.

/// After an answer that came too late less is asked for; after those that are in time by and by more again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(usize);

/// Where everything is asked for singly: more than anybody wants at a time.
const SLOWEST: usize = 1 << 15;

impl Default for Pace {
    fn default() -> Self {
        Self(1)
    }
}

impl Pace {
    /// How many to ask for, of so many that are wanted: at least one.
    pub(super) fn of(self, wanted: usize) -> usize {
        (wanted / self.0).max(1)
    }

    pub(super) fn slower(self) -> Self {
        Self((self.0 * 8).min(SLOWEST))
    }

    pub(super) fn faster(self) -> Self {
        Self((self.0 / 2).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_wanted_it_comes_down_to_one() {
        let mut pace = Pace::default();
        (0..6).for_each(|_| pace = pace.slower());
        assert_eq!(pace.of(20_001), 1);
        (0..15).for_each(|_| pace = pace.faster());
        assert_eq!(pace.of(20_001), 20_001);
    }
}
