//! The readers of a store, one for each thread that follows runs, and what their followers and the appends of the same
//! thread have of them.

use super::keys::StreamKey;
use super::link::Making;
use super::per_thread::PerThread;
use super::reader::Reader;
use super::roster::ROOM;
use super::streams::Streams;
use crate::event::{EventId, RunId, StoredEvent};
use crate::store::{Tail, TailItem};
use futures::stream;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

/// What readers work with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) making: Making,
    pub(super) streams: Arc<Streams>,
    /// As many lookouts as there may be.
    pub(super) lookouts: Arc<Semaphore>,
    /// There in a cluster: told when a stream is on another server by now.
    pub(super) moved: Option<Arc<Notify>>,
}

/// All readers of a store.
pub(super) struct Readers {
    tools: Tools,
    readers: PerThread<Arc<Reader>>,
}

impl Readers {
    /// At most so many readers; further threads share one, which lives `elsewhere`.
    pub(super) fn new(tools: Tools, most: usize, elsewhere: Handle) -> Self {
        Self { tools, readers: PerThread::new(most, elsewhere) }
    }

    /// Follows a run, on this thread. Dropping the tail ends it.
    pub(super) fn tail(&self, run: RunId, key: StreamKey, after: EventId) -> Tail {
        let reader = self.readers.here(|runtime| {
            let reader = Arc::new(Reader { roster: Mutex::default(), work: Notify::new() });
            let task = runtime.spawn(Arc::clone(&reader).work(self.tools.clone()));
            (reader, task)
        });
        let (sink, inbox) = mpsc::channel(ROOM);
        let number = reader.roster.lock().join(run, key, after, sink);
        reader.work.notify_one();
        let seat = Seat { reader, number, inbox };
        Box::pin(stream::unfold(seat, |mut seat| async move {
            let item = seat.inbox.recv().await?;
            seat.tell_of_room();
            Some((item, seat))
        }))
    }

    /// Says that this thread is about to append to these streams, until what this answers is dropped.
    pub(super) fn appending(&self, names: Vec<String>) -> Appending {
        let reader = self.readers.own();
        if let Some(reader) = &reader {
            let mut roster = reader.roster.lock();
            names.iter().for_each(|name| roster.append_begins(name));
        }
        Appending { reader, names }
    }
}

/// Appends that are under way.
pub(super) struct Appending {
    reader: Option<Arc<Reader>>,
    names: Vec<String>,
}

impl Appending {
    /// Events that were stored in one of the streams, directly behind `previous`; made only if a follower on
    /// this thread stands there. One that does not reads them.
    pub(super) fn stored(
        &self,
        index: usize,
        previous: EventId,
        events: impl FnOnce() -> Vec<StoredEvent>,
    ) {
        let (Some(reader), Some(name)) = (&self.reader, self.names.get(index)) else { return };
        let mut roster = reader.roster.lock();
        if roster.awaits(name, previous) {
            let events = events();
            // A stream that began anew may give ids that lie before.
            if events.first().is_some_and(|first| first.id > previous) {
                return roster.stored(name, previous, events, Instant::now());
            }
        }
        if roster.stored_elsewhere(name) {
            drop(roster);
            reader.work.notify_one();
        }
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        let Some(reader) = &self.reader else { return };
        let mut roster = reader.roster.lock();
        let mut changed = false;
        for name in &self.names {
            changed |= roster.append_ended(name);
        }
        drop(roster);
        if changed {
            reader.work.notify_one();
        }
    }
}

/// A follower's end of a tail.
struct Seat {
    reader: Arc<Reader>,
    number: u64,
    inbox: mpsc::Receiver<TailItem>,
}

impl Seat {
    /// Lets the reader go on with this run if it was left out for want of room.
    fn tell_of_room(&self) {
        if self.inbox.len() <= ROOM / 2 && self.reader.roster.lock().has_room(self.number) {
            self.reader.work.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.reader.roster.lock().leave(self.number);
    }
}
