//! Where publishes wait on the hub's own disk while the store does not take them.
//!
//! An ordered log of segments in a folder that one hub holds by a lock. Whatever has gathered is written
//! with one sync, and only then acknowledged. A record names its publish as the store will be told it
//! (writer and number), so that sending it again, even by the next process, never stores it twice. What is
//! in the store is forgotten run by run; a segment goes when nothing in it is left.
//!
//! It knows nothing of stores or actors: the hub decides what goes in and out.

mod index;
mod load;
mod record;
#[cfg(test)]
mod tests;
mod worker;

use crate::event::{NewEvent, RunId};
use crate::telemetry::metrics;
use index::{Entry, Index};
use parking_lot::Mutex;
use record::Record;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use worker::{Command, Worker};

/// A publish that is to reach the store later, under the name it will have there.
#[derive(Debug, Clone)]
pub struct SpooledPublish {
    /// Its run.
    pub run: RunId,
    /// Who numbered it.
    pub writer: u64,
    /// Its number.
    pub number: u64,
    /// When it was published, in ms since the Unix epoch.
    pub published_ms: u64,
    /// Its events.
    pub events: Arc<[NewEvent]>,
}

/// A publish that waits in the spool.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its place in the spool; later ones have greater places.
    pub place: u64,
    /// What waits.
    pub publish: SpooledPublish,
}

/// The spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the spool {path} is in use by another hub; stop it or choose another folder with --data-dir", path = .0.display())]
    InUse(PathBuf),
    /// It cannot be made or read.
    #[error("cannot open the spool {path}: {reason}; choose another folder with --data-dir", path = path.display())]
    Failed {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A publish is not in the spool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// It has as much as it may hold, or the disk has.
    #[error("the spool is full")]
    Full,
    /// The disk failed.
    #[error("the spool cannot be written: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

/// Told when a publish is on the disk, or is not going to be. Called on the spool's thread.
pub type Done = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;

/// What waits in the spool.
#[derive(Debug, Clone, Default)]
pub struct SpoolStatus {
    /// Events that wait.
    pub events: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When the oldest event was published, in ms since the Unix epoch.
    pub oldest_ms: Option<u64>,
    /// Why it cannot be written, if the last attempt failed.
    pub trouble: Option<String>,
}

/// The spool. Clones share it; it closes when the last one is gone and what it was given is on the disk.
#[derive(Debug, Clone)]
pub struct Spool {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    commands: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread shares with everybody else.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// The most bytes on the disk.
    max_bytes: u64,
    /// The most bytes on their way to it.
    room: u64,
    on_the_way: AtomicU64,
    disk_bytes: AtomicU64,
    index: Mutex<Index>,
    trouble: Mutex<Option<String>>,
    /// How often something was drained, and how much of that is surely noted.
    drained: AtomicU64,
    settled: AtomicU64,
}

impl Spool {
    /// Opens or makes the spool in a folder. It takes up to `max_bytes` on the disk, and up to `room`
    /// bytes in memory on their way there.
    pub fn open(folder: &Path, max_bytes: u64, room: u64) -> Result<Self, OpenError> {
        let loaded = load::load(folder)?;
        let shared = Arc::new(Shared {
            folder: folder.into(),
            max_bytes,
            room,
            on_the_way: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
            index: Mutex::new(loaded.index),
            trouble: Mutex::new(None),
            // What an earlier life has noted may not have been synced.
            drained: AtomicU64::new(1),
            settled: AtomicU64::new(0),
        });
        shared.measure();
        let worker =
            Worker::new(Arc::clone(&shared), loaded.lock, loaded.next_seq, loaded.next_segment);
        let (commands, inbox) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("runhub-spool".to_owned())
            .spawn(move || worker.work(&inbox))
            .map_err(|e| OpenError::Failed { path: folder.into(), reason: e.to_string() })?;
        let (commands, thread) = (Mutex::new(Some(commands)), Mutex::new(Some(thread)));
        Ok(Self { handle: Arc::new(Handle { shared, commands, thread }) })
    }

    /// Takes the room for publishes that are to be appended, or says that there is none.
    pub fn reserve(&self, publishes: &[SpooledPublish]) -> Result<(), SpoolError> {
        let shared = &self.handle.shared;
        let size: usize = publishes.iter().map(size_of).sum();
        let on_disk = shared.disk_bytes.load(Ordering::Acquire);
        let take = |earlier: u64| {
            let on_the_way = earlier + size as u64;
            // One may always be on its way, however large.
            let crowded = on_the_way > shared.room && earlier > 0;
            (!crowded && on_disk + on_the_way <= shared.max_bytes).then_some(on_the_way)
        };
        let taken = shared.on_the_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.map(|_| ()).map_err(|_| SpoolError::Full)
    }

    /// Takes a publish whose room is reserved; `done` is told when it is on the disk, on another thread.
    /// It comes behind all that were given before.
    pub fn append(&self, publish: SpooledPublish, done: Done) {
        let size = size_of(&publish);
        if let Some(Command::Append { done, .. }) =
            self.send(Command::Append { publish, size, done })
        {
            self.handle.shared.give_back(size);
            let reason = "its thread has ended".to_owned();
            std::thread::spawn(move || done(Err(SpoolError::Failed { reason })));
        }
    }

    /// The oldest publishes of a run, about as many events and bytes as asked for; at least one, if there is any. Reads
    /// the disk: it blocks. What turns out to be damaged is left out, and the file kept; a disk that fails to read is
    /// an error.
    pub fn oldest(&self, run: &RunId, events: usize, bytes: usize) -> io::Result<Vec<Waiting>> {
        let shared = &self.handle.shared;
        loop {
            let entries = shared.index.lock().oldest(run, events, bytes);
            let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(Vec::new()) };
            let mut read = Vec::with_capacity(entries.len());
            for entry in entries {
                let place = entry.seq;
                let publish = shared.read_publish(run, entry)?;
                read.extend(publish.map(|publish| Waiting { place, publish }));
            }
            if !read.is_empty() {
                return Ok(read);
            }
            self.drained(run, last);
        }
    }

    /// How many publishes of a run wait on the disk.
    pub fn waiting(&self, run: &RunId) -> usize {
        self.handle.shared.index.lock().count(run)
    }

    /// The store has a run's publishes up to this place.
    pub fn drained(&self, run: &RunId, seq: u64) {
        self.handle.shared.index.lock().drain(run, seq);
        // Without its thread nothing is noted; then it is drained again after a restart.
        drop(self.send(Command::Drained { run: run.clone(), seq }));
        self.handle.shared.drained.fetch_add(1, Ordering::AcqRel);
    }

    /// The runs with publishes that wait, and how many.
    pub fn runs(&self) -> Vec<(RunId, usize)> {
        let index = self.handle.shared.index.lock();
        index.runs().map(|(run, count)| (run.clone(), count)).collect()
    }

    /// Calls `flushed` when all that was given is on the disk, or was refused.
    pub fn flush(&self, flushed: impl FnOnce() + Send + 'static) {
        if let Some(Command::Flush(flushed)) = self.send(Command::Flush(Box::new(flushed))) {
            flushed();
        }
    }

    /// Calls `settled` when what was drained by now is noted on the disk, so that no crash of the machine brings
    /// it back to be sent again; at once if there is nothing to note.
    pub fn settle(&self, settled: impl FnOnce(Result<(), SpoolError>) + Send + 'static) {
        let drained = self.handle.shared.drained.load(Ordering::Acquire);
        if self.handle.shared.settled.load(Ordering::Acquire) >= drained {
            return settled(Ok(()));
        }
        let shared = Arc::clone(&self.handle.shared);
        let settled = Box::new(move |outcome: Result<(), SpoolError>| {
            if outcome.is_ok() {
                shared.settled.fetch_max(drained, Ordering::AcqRel);
            }
            settled(outcome);
        });
        if let Some(Command::Settle(settled)) = self.send(Command::Settle(settled)) {
            settled(Err(SpoolError::Failed { reason: "its thread has ended".to_owned() }));
        }
    }

    /// What waits.
    pub fn status(&self) -> SpoolStatus {
        let shared = &self.handle.shared;
        let index = shared.index.lock();
        SpoolStatus {
            events: index.events(),
            bytes: index.disk_bytes(),
            oldest_ms: index.oldest_ms(),
            trouble: shared.trouble.lock().clone(),
        }
    }

    /// Gives the command back if there is no thread to do it.
    fn send(&self, command: Command) -> Option<Command> {
        match &*self.handle.commands.lock() {
            Some(commands) => commands.send(command).map_err(|refused| refused.0).err(),
            None => Some(command),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without a sender the thread ends after what it was sent.
        drop(self.commands.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the spool's thread panicked");
        }
    }
}

impl Shared {
    fn give_back(&self, size: usize) {
        self.on_the_way.fetch_sub(size as u64, Ordering::AcqRel);
    }

    /// Tells everybody what is on the disk.
    fn measure(&self) {
        let index = self.index.lock();
        self.disk_bytes.store(index.disk_bytes(), Ordering::Release);
        metrics::spool(index.events(), index.disk_bytes());
    }

    fn read_entry(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let file = self.index.lock().segments.get(&entry.segment).map(|s| Arc::clone(&s.file));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; entry.length as usize];
        file.read_exact_at(&mut bytes, u64::from(entry.offset))?;
        Ok(bytes)
    }

    /// The publish of an entry; none if it is damaged, which is said.
    fn read_publish(&self, run: &RunId, mut entry: Entry) -> io::Result<Option<SpooledPublish>> {
        loop {
            let error = match self.read_entry(&entry).map(|bytes| record::read(&bytes)) {
                Ok(Some((Record::Publish { publish, .. }, _))) => return Ok(Some(publish)),
                Ok(_) => io::Error::from(io::ErrorKind::InvalidData),
                Err(e) => e,
            };
            // It may have been moved since it was looked up, and its segment removed.
            let Some(now) = self.index.lock().find(run, entry.seq) else { return Ok(None) };
            if now == entry {
                let damage = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
                if !damage.contains(&error.kind()) {
                    return Err(error);
                }
                self.lost(run, &entry, &error);
                return Ok(None);
            }
            entry = now;
        }
    }

    fn lost(&self, run: &RunId, entry: &Entry, error: &io::Error) {
        metrics::spool_damaged();
        log::error!(
            "{} events of run {run} cannot be read back from segment {} of the spool at {}: {error}; the \
             file is kept",
            entry.events,
            entry.segment,
            entry.offset
        );
        let path = self.index.lock().segments.get(&entry.segment).map(|s| s.path.clone());
        if let Some(path) = path {
            load::keep_damaged(&path);
        }
    }
}

/// What a publish takes on the disk at most, or a little more.
fn size_of(publish: &SpooledPublish) -> usize {
    const OF_PUBLISH: usize = 192;
    const OF_EVENT: usize = 256;
    let events = publish.events.iter().map(|new| new.event.text_bytes() + OF_EVENT);
    OF_PUBLISH + events.sum::<usize>()
}
