//! Which runs are followed, and by whom. A run's [`Roster`] outlives its RunActor: a replacement takes
//! over the subscribers and the position its predecessor had reached.

use super::Core;
use super::run::{Attach, Retire, RunActor};
use super::subscriber::{CloseReason, Feed, FromRun};
use crate::event::{EventId, RunId, Sequence};
use actix::{Addr, Recipient};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// All followed runs.
#[derive(Default)]
pub(super) struct Registry {
    slots: Mutex<HashMap<RunId, Slot>>,
    next: AtomicU64,
}

struct Slot {
    actor: Addr<RunActor>,
    /// Tells this actor from its predecessors and successors.
    generation: u64,
    roster: Arc<Roster>,
    /// The actor died and is to be replaced. (Its address may look alive for a moment longer.)
    dead: bool,
}

/// What survives a RunActor.
#[derive(Default)]
pub(super) struct Roster {
    state: Mutex<RosterState>,
    /// How many subscribers there are, for whoever need not know who: the lock is held as long as it takes to tell them
    /// all of something.
    count: AtomicUsize,
}

#[derive(Default)]
pub(super) struct RosterState {
    pub(super) subscribers: HashMap<SubscriberKey, Listener>,
    /// How many of them are near.
    near: usize,
    /// Up to where the run has been broadcast, and what is known of the event there.
    pub(super) reached: Reached,
    /// The actor whose word counts.
    pub(super) generation: u64,
    /// Deletions of the run that are under way: its readers are told of those, not of what they do to the
    /// log.
    deletions: u32,
    /// What is to be told of the log, which began anew meanwhile.
    reset_held: Option<FromRun>,
}

/// How far a run has been broadcast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) position: EventId,
    pub(super) at: At,
}

/// What is known of the event at a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum At {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// Its number.
    Numbered(Sequence),
    /// It has none, or is gone.
    Unnumbered,
}

impl At {
    /// The number, if it has one.
    pub(super) fn sequence(self) -> Option<Sequence> {
        match self {
            Self::Numbered(sequence) => Some(sequence),
            Self::Unknown | Self::Unnumbered => None,
        }
    }

    /// Of an event that has this number, or none.
    pub(super) fn of(sequence: Option<Sequence>) -> Self {
        sequence.map_or(Self::Unnumbered, Self::Numbered)
    }
}

/// Names one subscriber of this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SubscriberKey(u64);

/// Subscribers of a run that are near it: their feeds take live batches on the thread of the RunActor. They are few,
/// since what is little it even writes to their readers, one after the other. All others have their actors woken, which
/// share the work out over the HTTP workers and put many events into one write.
const NEAR: usize = 4;

/// A subscriber that hears of a run.
pub(super) struct Listener {
    mailbox: Recipient<FromRun>,
    feed: Arc<Feed>,
    near: bool,
}

impl Listener {
    /// The subscriber with this mailbox and this feed.
    pub(super) fn new(mailbox: Recipient<FromRun>, feed: &Arc<Feed>) -> Self {
        Self { mailbox, feed: Arc::clone(feed), near: false }
    }

    /// Tells it something of the run. For whoever has the roster locked, so that one thing comes after the other.
    pub(super) fn tell(&self, message: &FromRun) {
        let mail = match self.near {
            true => self.feed.take(message),
            false => Some(message.clone()),
        };
        if let Some(mail) = mail {
            self.mailbox.do_send(mail);
        }
    }
}

impl RosterState {
    fn add(&mut self, key: SubscriberKey, mut listener: Listener) {
        listener.near = self.near < NEAR;
        self.near += usize::from(listener.near);
        listener.feed.set_near(listener.near);
        self.subscribers.insert(key, listener);
    }

    fn remove_all(&mut self) -> HashMap<SubscriberKey, Listener> {
        self.near = 0;
        std::mem::take(&mut self.subscribers)
    }

    fn remove(&mut self, key: SubscriberKey) {
        if self.subscribers.remove(&key).is_some_and(|listener| listener.near) {
            self.near -= 1;
        }
    }
}

impl Roster {
    pub(super) fn lock(&self) -> MutexGuard<'_, RosterState> {
        self.state.lock()
    }

    /// How many subscribers there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, key: SubscriberKey, listener: Listener) {
        let mut state = self.lock();
        state.add(key, listener);
        self.note_count(&state);
    }

    /// Removes a subscriber. True if none is left.
    fn remove(&self, key: SubscriberKey) -> bool {
        let mut state = self.lock();
        state.remove(key);
        self.note_count(&state);
        state.subscribers.is_empty()
    }

    fn remove_all(&self) -> HashMap<SubscriberKey, Listener> {
        let mut state = self.lock();
        let gone = state.remove_all();
        self.note_count(&state);
        gone
    }

    fn note_count(&self, state: &RosterState) {
        self.count.store(state.subscribers.len(), Ordering::Relaxed);
    }

    /// Sends the same to every subscriber.
    pub(super) fn broadcast(&self, message: &FromRun) {
        for subscriber in self.lock().subscribers.values() {
            subscriber.tell(message);
        }
    }

    /// Tells every subscriber that the log began anew, unless that is a deletion's doing.
    pub(super) fn broadcast_reset(&self, reset: FromRun) {
        {
            let mut state = self.lock();
            if state.deletions > 0 {
                state.reset_held = Some(reset);
                return;
            }
        }
        self.broadcast(&reset);
    }
}

/// A deletion of a run by this hub is under way.
pub(super) struct Deletion(Option<Arc<Roster>>);

impl Drop for Deletion {
    fn drop(&mut self) {
        let Some(roster) = &self.0 else { return };
        let held = {
            let mut state = roster.lock();
            state.deletions -= 1;
            if state.deletions == 0 { state.reset_held.take() } else { None }
        };
        if let Some(reset) = held {
            roster.broadcast(&reset);
        }
    }
}

impl Registry {
    /// A run is about to be deleted.
    pub(super) fn deletion(&self, run: &RunId) -> Deletion {
        let roster = self.roster(run);
        if let Some(roster) = &roster {
            roster.lock().deletions += 1;
        }
        Deletion(roster)
    }

    /// The run is gone: its streams are closed, and are told nothing else of that. Who comes from now on is another
    /// actor's, which knows nothing of the events that were.
    pub(super) fn deleted(&self, run: &RunId, deletion: &Deletion) {
        if let Some(roster) = &deletion.0 {
            roster.lock().reset_held = None;
        }
        let slot = self.slots.lock().remove(run);
        if let Some(slot) = slot {
            slot.roster.broadcast(&FromRun::Close(CloseReason::RunDeleted));
            slot.actor.do_send(Retire);
            // Who leaves does not find it any more; no outbox is to wait until its actor has retired.
            let gone = slot.roster.remove_all();
            drop(gone);
        }
    }

    /// Lets a subscriber hear of a run. `position` is where a tail that is not running yet begins.
    pub(super) fn attach(
        &self,
        core: &Arc<Core>,
        run: &RunId,
        listener: Listener,
        position: EventId,
        cursor: EventId,
    ) -> SubscriberKey {
        let key = SubscriberKey(self.next.fetch_add(1, Ordering::Relaxed));
        let mut slots = self.slots.lock();
        let slot = slots.entry(run.clone()).or_insert_with(|| {
            let roster = Arc::new(Roster::default());
            roster.lock().reached = Reached { position, at: At::Unknown };
            self.start(core, run, roster)
        });
        slot.roster.add(key, listener);
        slot.actor.do_send(Attach { key, cursor });
        key
    }

    /// Lets a subscriber hear no more of a run.
    pub(super) fn detach(&self, run: &RunId, key: SubscriberKey) {
        // Who leaves a run of many while they are told of something holds up that run alone.
        let Some(roster) = self.roster(run) else { return };
        if roster.remove(key)
            && let Some(slot) = self.slots.lock().get(run)
            && Arc::ptr_eq(&slot.roster, &roster)
        {
            slot.actor.do_send(Retire);
        }
    }

    /// Forgets a run that nobody follows. False if somebody has come meanwhile.
    pub(super) fn retire(&self, run: &RunId, generation: u64) -> bool {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get(run) else { return true };
        if slot.generation != generation {
            return true;
        }
        let idle = slot.roster.lock().subscribers.is_empty();
        if idle {
            slots.remove(run);
        }
        idle
    }

    /// A run's actor of this generation died. False if it has a successor already, or was let go.
    pub(super) fn died(&self, run: &RunId, generation: u64) -> bool {
        let mut slots = self.slots.lock();
        let current = slots.get_mut(run).filter(|slot| slot.generation == generation);
        current.is_some_and(|slot| {
            slot.dead = true;
            true
        })
    }

    /// Starts new actors for all runs on the thread of this number, which was stuck.
    pub(super) fn replace_stuck(&self, core: &Arc<Core>, number: usize) {
        let mut slots = self.slots.lock();
        for (run, slot) in
            slots.iter_mut().filter(|(run, _)| core.arbiters.number_of(run) == number)
        {
            *slot = self.start(core, run, Arc::clone(&slot.roster));
        }
    }

    /// Starts a new actor for a run whose actor died, with the same roster.
    pub(super) fn replace(&self, core: &Arc<Core>, run: &RunId) {
        if let Some(slot) = self.slots.lock().get_mut(run)
            && slot.dead
        {
            *slot = self.start(core, run, Arc::clone(&slot.roster));
        }
    }

    /// Starts new actors for all runs whose actors died.
    pub(super) fn replace_all(&self, core: &Arc<Core>) {
        for (run, slot) in self.slots.lock().iter_mut().filter(|(_, slot)| slot.dead) {
            *slot = self.start(core, run, Arc::clone(&slot.roster));
        }
    }

    fn start(&self, core: &Arc<Core>, run: &RunId, roster: Arc<Roster>) -> Slot {
        let generation = self.next.fetch_add(1, Ordering::Relaxed);
        roster.lock().generation = generation;
        let actor = RunActor::start_for(core, run, generation, Arc::clone(&roster));
        Slot { actor, generation, roster, dead: false }
    }

    pub(super) fn subscribers(&self, run: &RunId) -> usize {
        self.roster(run).map_or(0, |roster| roster.count())
    }

    fn roster(&self, run: &RunId) -> Option<Arc<Roster>> {
        self.slots.lock().get(run).map(|slot| Arc::clone(&slot.roster))
    }

    /// Tells all readers to look at the mode.
    pub(super) fn mode_changed(&self) {
        for slot in self.slots.lock().values() {
            slot.roster.broadcast(&FromRun::ModeChanged);
        }
    }

    /// Closes all streams.
    pub(super) fn close_all(&self, reason: CloseReason) {
        for slot in self.slots.lock().values() {
            slot.roster.broadcast(&FromRun::Close(reason));
        }
    }

    #[cfg(test)]
    pub(super) fn send_run<M>(&self, run: &RunId, message: M)
    where
        M: actix::Message<Result = ()> + Send + 'static,
        RunActor: actix::Handler<M>,
    {
        if let Some(slot) = self.slots.lock().get(run) {
            slot.actor.do_send(message);
        }
    }

    #[cfg(test)]
    pub(super) fn tell(&self, run: &RunId, message: &FromRun) {
        if let Some(slot) = self.slots.lock().get(run) {
            slot.roster.broadcast(message);
        }
    }

    #[cfg(test)]
    pub(super) fn reached(&self, run: &RunId) -> Option<Reached> {
        self.roster(run).map(|roster| roster.lock().reached)
    }

    #[cfg(test)]
    pub(super) fn is_followed(&self, run: &RunId) -> bool {
        self.slots.lock().contains_key(run)
    }
}
