//! A reader's feed: where the reader stands, and its outbox. Its SubscriberActor keeps it. Of a reader that is near its
//! run the RunActor puts live batches in as well, without waking that actor, whose thread is another.
//!
//! What only the actor can do goes to it by mail. As long as anything is in the mail, all goes that way, and so in
//! order.

use super::FromRun;
use super::live::{AfterBatch, hear};
use super::outbox::Outbox;
use super::seam::{AfterPage, Seam};
use crate::event::EventId;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use std::sync::Arc;

/// The feed; see the module.
pub(in crate::hub) struct Feed {
    state: Mutex<State>,
    outbox: Arc<Outbox>,
}

struct State {
    seam: Seam,
    /// Messages of the run that the actor has not handled yet. That it is to begin is one.
    in_mail: usize,
}

impl Feed {
    /// Of a reader that has everything up to `cursor`, and whose actor has not begun to hear of the run.
    pub(super) fn new(cursor: EventId, outbox: Arc<Outbox>) -> Self {
        Self { state: Mutex::new(State { seam: Seam::new(cursor), in_mail: 1 }), outbox }
    }

    /// Where the reader stands. Nobody else moves it meanwhile.
    pub(super) fn seam(&self) -> MappedMutexGuard<'_, Seam> {
        MutexGuard::map(self.state.lock(), |state| &mut state.seam)
    }

    /// Notes whether the reader is near its run.
    pub(in crate::hub) fn set_near(&self, near: bool) {
        self.outbox.set_near(near);
    }

    /// Takes a message of the run, on any thread. What is left for the actor to handle, by mail.
    pub(in crate::hub) fn take(&self, message: &FromRun) -> Option<FromRun> {
        let state = &mut *self.state.lock();
        let mail = match message {
            FromRun::Batch { batch, gap } if state.in_mail == 0 => {
                match hear(&mut state.seam, &self.outbox, batch, *gap) {
                    AfterBatch::Nothing => return None,
                    after => FromRun::Heard(after),
                }
            }
            other => other.clone(),
        };
        state.in_mail += 1;
        Some(mail)
    }

    /// A page that was read is in the outbox, up to `last`; see [`Seam::after_page`]. The actor is to see to what is
    /// next before anything else of the run, as if it were mail.
    pub(super) fn after_page(
        &self,
        last: EventId,
        empty: bool,
        more: bool,
        full: bool,
    ) -> AfterPage {
        let state = &mut *self.state.lock();
        state.in_mail += 1;
        state.seam.delivered(last);
        state.seam.after_page(empty, more, full)
    }

    /// The actor has handled a message of the run, or has begun.
    pub(super) fn handled(&self) {
        let in_mail = &mut self.state.lock().in_mail;
        // Of a reader that is not near they are not counted.
        *in_mail = in_mail.saturating_sub(1);
    }
}
