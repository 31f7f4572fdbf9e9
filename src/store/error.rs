//! Why a store did not do what it was asked to.

/// A failure of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached; nothing was done.
    #[error("the store cannot be reached: {reason}")]
    Unreachable {
        /// What the last attempt met.
        reason: String,
    },
    /// It was asked and did not answer; what was asked may or may not have been done.
    #[error("the store did not answer: {reason}")]
    NoAnswer {
        /// What happened.
        reason: String,
    },
    /// It answered that it cannot do it now; nothing was done.
    #[error("the store refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// This run cannot be served for the moment, others can: it is just moving to another server. Nothing was done.
    #[error("the store cannot serve this run for the moment: {reason}")]
    RunMoves {
        /// Its words.
        reason: String,
    },
    /// This run cannot be served, others can: something else is kept under its name, say.
    #[error("the store cannot serve this run: {reason}")]
    BrokenRun {
        /// Its words.
        reason: String,
    },
}

impl StoreError {
    /// Whether what was asked may have been done all the same.
    pub const fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Whether asking again later makes sense.
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::BrokenRun { .. })
    }

    /// Whether the store itself is in trouble, not only this run.
    pub const fn is_the_stores(&self) -> bool {
        !matches!(self, Self::BrokenRun { .. } | Self::RunMoves { .. })
    }
}
