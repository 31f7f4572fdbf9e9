//! Following a run of a store in this process: read what is there, then wait to be woken.
//!
//! The tail reads the log itself each time; the wake-up only says that there may be something to read.
//! A wake-up that is missed costs a delay, never an event.

use super::{LogStore, RangeRequest, RunState, Tail, TailItem};
use crate::event::{EventId, RunId};
use futures::stream;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How often a tail looks whether its run was reset, and how long it waits after a failed read.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_millis(200);
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

/// Who waits for which run.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<HashMap<RunId, Weak<Bell>>>);

/// Tells the tails of one run of appends.
#[derive(Debug, Default)]
struct Bell {
    /// Appends so far.
    rung: AtomicU64,
    notify: Notify,
}

impl Wakers {
    /// Wakes all tails of a run.
    pub(super) fn wake(&self, run: &RunId) {
        if let Some(bell) = self.0.lock().get(run).and_then(Weak::upgrade) {
            bell.rung.fetch_add(1, Ordering::Release);
            bell.notify.notify_waiters();
        }
    }

    fn of(&self, run: &RunId) -> Arc<Bell> {
        let mut waiting = self.0.lock();
        if let Some(bell) = waiting.get(run).and_then(Weak::upgrade) {
            return bell;
        }
        waiting.retain(|_, bell| bell.strong_count() > 0);
        let bell = Arc::new(Bell::default());
        waiting.insert(run.clone(), Arc::downgrade(&bell));
        bell
    }
}

struct Follower<S> {
    store: S,
    run: RunId,
    position: EventId,
    bell: Arc<Bell>,
    /// What the bell said before the last read, if that found all there was.
    all_read_at: Option<u64>,
}

/// The tail of a run in a store that wakes `wakers` after each append.
pub(super) fn follow<S: LogStore + 'static>(
    store: S,
    wakers: &Wakers,
    run: &RunId,
    after: EventId,
) -> Tail {
    let bell = wakers.of(run);
    let follower = Follower { store, run: run.clone(), position: after, bell, all_read_at: None };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await;
        Some((item, follower))
    }))
}

impl<S: LogStore> Follower<S> {
    async fn next(&mut self) -> TailItem {
        loop {
            let bell = Arc::clone(&self.bell);
            let mut woken = std::pin::pin!(bell.notify.notified());
            // Enlisted before reading, so that an append in between is not slept through.
            woken.as_mut().enable();
            let rung = bell.rung.load(Ordering::Acquire);
            if self.all_read_at.take() == Some(rung) {
                // A read now would find nothing.
                drop(tokio::time::timeout(CHECK_EVERY, woken).await);
                continue;
            }
            let request = RangeRequest::after(self.position, PAGE_EVENTS, PAGE_BYTES);
            match self.store.range(&self.run, request).await {
                Ok(page) if !page.events.is_empty() => {
                    self.position = page.events.last().map_or(self.position, |e| e.id);
                    self.all_read_at = (!page.more).then_some(rung);
                    return TailItem::Events(page.events);
                }
                Ok(_) if self.is_ahead().await => {
                    self.position = EventId::START;
                    return TailItem::Reset;
                }
                Ok(_) => drop(tokio::time::timeout(CHECK_EVERY, woken).await),
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    async fn is_ahead(&self) -> bool {
        if self.position == EventId::START {
            return false;
        }
        match self.store.run(&self.run).await {
            Ok(RunState::Known(info)) => info.last_id < self.position,
            Ok(RunState::Unknown | RunState::Expired) => true,
            Err(_) => false,
        }
    }
}
