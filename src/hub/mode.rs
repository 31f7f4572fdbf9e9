//! Whether the hub can reach its store, decided from what calls to the store and the probe met.

use crate::store::StoreError;
use parking_lot::Mutex;

/// How the hub stands to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The store answers, and nothing waits in the spool for it.
    #[default]
    Normal,
    /// The store is away or takes no writes; what is published waits in the spool.
    Degraded,
    /// The store answers again, and gets what was spooled meanwhile.
    Recovering,
}

impl Mode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Recovering => "recovering",
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
    /// What the store's last failure was, until all is well again.
    pub why: Option<String>,
}

/// Failures in a row that make the hub degraded, unless the store is plainly gone.
const PATIENCE: u32 = 2;
/// How long the probe must have gone well before the store is believed to be back: at first, and at most.
/// It doubles with each relapse.
const FIRST_CALM_MS: u64 = 200;
const LONGEST_CALM_MS: u64 = 2_000;
/// A store that was well for this long has no relapse.
const STEADY_MS: u64 = 30_000;

/// Decides the mode. Pure: it is told what happened and when.
#[derive(Debug, Default)]
pub struct ModeKeeper {
    report: ModeReport,
    failures: u32,
    /// Since when the probe goes well, while degraded.
    calm_since_ms: Option<u64>,
    /// When it was last degraded, and how long calm had to last to end that.
    last_ill_ms: u64,
    calm_ms: u64,
}

impl ModeKeeper {
    /// The mode now.
    pub fn report(&self) -> &ModeReport {
        &self.report
    }

    /// A call to the store failed. True if that changes the mode.
    pub fn failed(&mut self, error: &StoreError, now_ms: u64) -> bool {
        if !error.is_the_stores() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.calm_since_ms = None;
        // One call without an answer may be a hiccup; a refusal or a dead connection speaks for itself.
        let plain = !error.outcome_is_unknown();
        match self.report.mode {
            Mode::Degraded => {
                self.last_ill_ms = now_ms;
                self.report.why = Some(error.to_string());
                false
            }
            Mode::Normal | Mode::Recovering if plain || self.failures >= PATIENCE => {
                let relapse =
                    self.calm_ms > 0 && now_ms.saturating_sub(self.last_ill_ms) < STEADY_MS;
                self.calm_ms = match relapse {
                    true => (self.calm_ms * 2).min(LONGEST_CALM_MS),
                    false => FIRST_CALM_MS,
                };
                self.last_ill_ms = now_ms;
                self.enter(Mode::Degraded, now_ms, Some(error.to_string()));
                true
            }
            Mode::Normal | Mode::Recovering => false,
        }
    }

    /// The probe went well; `behind` says whether the spool holds something for the store. True if that
    /// changes the mode.
    pub fn answered(&mut self, behind: bool, now_ms: u64) -> bool {
        self.failures = 0;
        let well = if behind { Mode::Recovering } else { Mode::Normal };
        match self.report.mode {
            Mode::Degraded => {
                // A clock that was set back must not make it wait.
                let since = self.calm_since_ms.filter(|since| *since <= now_ms);
                let calm_since = *self.calm_since_ms.insert(since.unwrap_or(now_ms));
                if now_ms.saturating_sub(calm_since) < self.calm_ms {
                    return false;
                }
                self.calm_since_ms = None;
                let why = self.report.why.take().filter(|_| behind);
                self.enter(well, now_ms, why);
                true
            }
            Mode::Recovering if !behind => {
                self.enter(Mode::Normal, now_ms, None);
                true
            }
            // What a publish or two left there, or an earlier life of the hub.
            Mode::Normal if behind => {
                self.enter(Mode::Recovering, now_ms, self.report.why.clone());
                true
            }
            Mode::Recovering | Mode::Normal => false,
        }
    }

    fn enter(&mut self, mode: Mode, since_ms: u64, why: Option<String>) {
        self.report = ModeReport { mode, since_ms, why };
    }
}

/// The mode as everybody can read it; only the supervisor writes it.
#[derive(Debug, Default)]
pub(super) struct SharedMode(Mutex<ModeKeeper>);

impl SharedMode {
    pub(super) fn report(&self) -> ModeReport {
        self.0.lock().report().clone()
    }

    pub(super) fn is(&self, mode: Mode) -> bool {
        self.0.lock().report().mode == mode
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ModeKeeper) -> bool) -> bool {
        change(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> StoreError {
        StoreError::NoAnswer { reason: "timed out".into() }
    }

    fn refusal() -> StoreError {
        StoreError::Refused { reason: "OOM".into() }
    }

    #[test]
    fn one_silence_is_forgiven_and_a_refusal_is_not() {
        let mut keeper = ModeKeeper::default();
        assert!(!keeper.failed(&silence(), 1) && !keeper.answered(false, 2));
        assert!(!keeper.failed(&silence(), 3) && keeper.failed(&silence(), 4));
        assert_eq!((keeper.report().mode, keeper.report().since_ms), (Mode::Degraded, 4));
        assert!(!keeper.failed(&refusal(), 5));
        assert_eq!(keeper.report().since_ms, 4);
        let mut keeper = ModeKeeper::default();
        assert!(keeper.failed(&refusal(), 7));
        let moves = StoreError::RunMoves { reason: "ASK".into() };
        assert!(!keeper.failed(&moves, 8));
        let broken = StoreError::BrokenRun { reason: "WRONGTYPE".into() };
        let mut keeper = ModeKeeper::default();
        assert!(!keeper.failed(&broken, 9) && !keeper.failed(&broken, 10));
        assert_eq!(keeper.report().mode, Mode::Normal);
    }

    #[test]
    fn a_store_that_is_back_gets_what_is_spooled_before_all_is_normal() {
        let mut keeper = ModeKeeper::default();
        assert!(keeper.failed(&refusal(), 100));
        assert!(!keeper.answered(true, 1000), "one good answer is none yet");
        assert!(!keeper.answered(true, 1000 + FIRST_CALM_MS - 1));
        assert!(keeper.answered(true, 1000 + FIRST_CALM_MS));
        assert_eq!(keeper.report().mode, Mode::Recovering);
        assert!(keeper.report().why.is_some());
        assert!(!keeper.answered(true, 2000) && keeper.answered(false, 2001));
        assert_eq!((keeper.report().mode, keeper.report().since_ms), (Mode::Normal, 2001));
        assert_eq!(keeper.report().why, None);
        assert!(keeper.answered(true, 3000), "what one late publish left there");
        assert_eq!(keeper.report().mode, Mode::Recovering);
        assert!(keeper.failed(&refusal(), 3001), "and it may fail again");
    }

    #[test]
    fn a_store_that_comes_and_goes_must_be_calm_for_longer_each_time() {
        let (mut keeper, mut now, mut calms) = (ModeKeeper::default(), 0, Vec::new());
        for _ in 0..8 {
            assert!(keeper.failed(&refusal(), now));
            let began = now;
            while !keeper.answered(false, now) {
                now += 50;
            }
            calms.push(now - began);
        }
        assert_eq!(calms, [200, 400, 800, 1600, 2000, 2000, 2000, 2000]);
        now += STEADY_MS;
        assert!(keeper.failed(&refusal(), now) && !keeper.answered(false, now));
        assert!(keeper.answered(false, now + FIRST_CALM_MS), "a steady life is no relapse");
    }

    #[test]
    fn a_failure_among_good_answers_begins_the_calm_anew() {
        let mut keeper = ModeKeeper::default();
        keeper.failed(&refusal(), 0);
        assert!(!keeper.answered(false, 100) && !keeper.failed(&silence(), 250));
        assert!(!keeper.answered(false, 350) && keeper.answered(false, 550));
    }
}
