//! Notices the death of an actor, however it dies.
//!
//! `actix` drops a panicked actor with its context and tells nobody. Each supervised actor therefore
//! holds an [`Obituary`], which is dropped with it: unless the actor said beforehand that it means to
//! stop, whoever is to know is told. One that never began to live leaves none: its thread has ended, with the whole
//! system most likely, and a replacement would fare no better.

/// Told when its owner is dropped unexpectedly.
pub(super) struct Obituary {
    actor: &'static str,
    tell: Option<Box<dyn FnOnce() -> bool + Send>>,
    lives: bool,
}

impl Obituary {
    /// An obituary for the actor of this name. `tell` is called at its death; it says whether that was
    /// one: actors are dropped as well when the hub ends.
    pub(super) fn new(actor: &'static str, tell: impl FnOnce() -> bool + Send + 'static) -> Self {
        Self { actor, tell: Some(Box::new(tell)), lives: false }
    }

    /// The actor has started.
    pub(super) fn begin(&mut self) {
        self.lives = true;
    }

    /// The actor means to stop: its end is no death. A panicking actor is stopped too, by `actix`, while
    /// the panic unwinds; that is not meant.
    pub(super) fn retract(&mut self) {
        if !std::thread::panicking() {
            self.tell = None;
        }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take().filter(|_| self.lives)
            && tell()
        {
            crate::telemetry::metrics::panicked(self.actor);
            log::error!("a {} died and is replaced", self.actor);
        }
    }
}
