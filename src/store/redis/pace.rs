//! How much is asked for at a time. What comes back may be large and the way slow, and nobody knows before; an answer
//! that did not come in time would not come in time the next time either.

/// After an answer that came too late less is asked for, until one is in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(usize);

/// Where everything is asked for singly.
const SLOWEST: usize = 256;

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
        Self((self.0 * 4).min(SLOWEST))
    }

    pub(super) fn faster(self) -> Self {
        Self((self.0 / 2).max(1))
    }
}
