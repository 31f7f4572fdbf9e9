//! Whether the hub can reach its store, decided from what calls to the store and the probe met.

use crate::store::StoreError;
use parking_lot::Mutex;

/// How the hub stands to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The store answers.
    #[default]
    Normal,
    /// The store is away or takes no writes.
    Degraded,
}

impl Mode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
        }
    }
}

/// The mode with its reasons.
#[derive(Debug, Clone, Default)]
pub struct ModeReport {
    /// The mode.
    pub mode: Mode,
    /// Since when, in ms since the Unix epoch; 0 since the start.
    pub since_ms: u64,
    /// What the store's last failure was, while degraded.
    pub why: Option<String>,
}

/// Failures in a row that make the hub degraded, unless the store is plainly gone.
const PATIENCE: u32 = 2;

/// Decides the mode. Pure: it is told what happened and when.
#[derive(Debug, Default)]
pub struct ModeKeeper {
    report: ModeReport,
    failures: u32,
}

impl ModeKeeper {
    /// The mode now.
    pub fn report(&self) -> &ModeReport {
        &self.report
    }

    /// A call to the store failed. True if that changes the mode.
    pub fn failed(&mut self, error: &StoreError, now_ms: u64) -> bool {
        if !error.is_transient() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        // One call without an answer may be a hiccup; a refusal or a dead connection speaks for itself.
        let plain = !error.outcome_is_unknown();
        match self.report.mode {
            Mode::Degraded => {
                self.report.why = Some(error.to_string());
                false
            }
            Mode::Normal if plain || self.failures >= PATIENCE => {
                let why = Some(error.to_string());
                self.report = ModeReport { mode: Mode::Degraded, since_ms: now_ms, why };
                true
            }
            Mode::Normal => false,
        }
    }

    /// The store did what it was asked: an append while normal, the probe while degraded. True if that
    /// changes the mode.
    pub fn answered(&mut self, now_ms: u64) -> bool {
        self.failures = 0;
        let changed = self.report.mode == Mode::Degraded;
        if changed {
            self.report = ModeReport { mode: Mode::Normal, since_ms: now_ms, why: None };
        }
        changed
    }
}

/// The mode as everybody can read it; only the supervisor writes it.
#[derive(Debug, Default)]
pub(super) struct SharedMode(Mutex<ModeKeeper>);

impl SharedMode {
    pub(super) fn report(&self) -> ModeReport {
        self.0.lock().report().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ModeKeeper) -> bool) -> bool {
        change(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silence_is_forgiven_and_a_refusal_is_not() {
        let silence = StoreError::NoAnswer { reason: "timed out".into() };
        let refusal = StoreError::Refused { reason: "OOM".into() };
        let broken = StoreError::BrokenRun { reason: "WRONGTYPE".into() };
        let mut keeper = ModeKeeper::default();
        assert!(!keeper.failed(&silence, 1) && !keeper.answered(2) && !keeper.failed(&silence, 3));
        assert!(keeper.failed(&silence, 4));
        assert_eq!((keeper.report().mode, keeper.report().since_ms), (Mode::Degraded, 4));
        assert!(!keeper.failed(&refusal, 5));
        assert_eq!(keeper.report().since_ms, 4);
        assert!(keeper.answered(6) && keeper.failed(&refusal, 7) && keeper.answered(8));
        assert!(!keeper.failed(&broken, 9));
        assert_eq!(keeper.report().mode, Mode::Normal);
    }
}
