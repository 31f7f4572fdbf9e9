//! The spool's thread: writes what has gathered with one sync, tells whoever waits, and removes segments
//! that are drained.
//!
//! A segment whose write or sync failed is never written again: what the disk did with it is not known.
//! What was to be written is cut off it and goes to a new one. Where somebody has removed the files, or the folder, they
//! are made again, with all that waits.

use super::index::{Entry, Segment};
use super::load::{lock, path_of, private};
use super::{Done, Shared, SpoolError, SpooledPublish, record};
use crate::event::RunId;
use crate::telemetry::metrics;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Told whether what was drained is noted.
pub(super) type Settled = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;

/// What the thread can be asked.
pub(super) enum Command {
    /// To write a publish; `size` bytes of room were taken for it.
    Append { publish: SpooledPublish, size: usize, done: Done },
    /// To note that a run's records up to this one are in the store.
    Drained { run: RunId, seq: u64 },
    /// To say when all that was asked before is done.
    Flush(Box<dyn FnOnce() + Send>),
    /// To say when all that was drained before is noted, so that no crash brings it back.
    Settle(Settled),
}

/// A segment takes no more records from here on.
const SEGMENT_BYTES: u64 = 16 << 20;
/// The most bytes written with one sync.
const COMMIT_BYTES: usize = 8 << 20;
/// From here on a sync is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Keeps other hubs out while it is open.
    lock: File,
    next_seq: u64,
    next_segment: u32,
    /// The segment that is written to.
    current: Option<u32>,
    /// Up to where runs were drained of which that could not be noted.
    unnoted: HashMap<RunId, u64>,
    /// Files that were drained and could not be removed.
    left_behind: Vec<PathBuf>,
    /// A segment of which not all can be read, and so not all be moved.
    unmovable: Option<u32>,
    /// Somebody has removed files that are in use.
    bereft: bool,
}

/// A publish that was encoded, and who waits for it.
struct Written {
    run: RunId,
    entry: Entry,
    size: usize,
    done: Done,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, lock: File, next_seq: u64, next_segment: u32) -> Self {
        Self {
            shared,
            lock,
            next_seq,
            next_segment,
            current: None,
            unnoted: HashMap::new(),
            left_behind: Vec::new(),
            unmovable: None,
            bereft: false,
        }
    }

    /// Works until nobody can send commands any more.
    pub(super) fn work(mut self, inbox: &Receiver<Command>) {
        self.tidy();
        while let Ok(first) = inbox.recv() {
            let (mut bytes, mut written, mut drained) = (Vec::new(), Vec::new(), HashMap::new());
            let (mut flushes, mut settles) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Append { publish, size, done } => {
                        written.push(self.encode(&mut bytes, publish, size, done));
                    }
                    Command::Drained { run, seq } => note_up_to(&mut drained, run, seq),
                    Command::Flush(flushed) => flushes.push(flushed),
                    Command::Settle(settled) => settles.push(settled),
                }
                if bytes.len() < COMMIT_BYTES {
                    next = inbox.try_recv().ok();
                }
            }
            if !written.is_empty() {
                write_notes(&mut bytes, &drained);
                if !self.commit(&bytes, written) {
                    self.remember(drained);
                }
            } else if !self.shared.index.lock().is_empty() {
                self.remember(drained);
                // If it cannot be, it is drained again after a restart, which the store recognises.
                if let Err(e) = self.note() {
                    log::debug!("could not note what was drained from the spool: {e}");
                }
            }
            if std::mem::take(&mut self.bereft) {
                self.restore();
            }
            self.tidy();
            if !settles.is_empty() {
                let outcome = self.settle();
                settles.into_iter().for_each(|settled| settled(outcome.clone()));
            }
            flushes.into_iter().for_each(|flushed| flushed());
            self.shared.measure();
        }
    }

    fn encode(
        &mut self,
        bytes: &mut Vec<u8>,
        publish: SpooledPublish,
        size: usize,
        done: Done,
    ) -> Written {
        let seq = self.next_seq;
        self.next_seq += 1;
        let offset = bytes.len();
        let length = record::write_publish(bytes, seq, &publish);
        let entry = Entry {
            seq,
            published_ms: publish.published_ms,
            segment: 0,
            offset: as_u32(offset),
            length: as_u32(length),
            events: as_u32(publish.events.len()),
        };
        Written { run: publish.run, entry, size, done }
    }

    /// Puts records on the disk, then tells whoever waits for them. True if they are there.
    fn commit(&mut self, bytes: &[u8], written: Vec<Written>) -> bool {
        let began = Instant::now();
        let put = self.append(bytes, true);
        let took = began.elapsed();
        if took >= SLOW {
            log::warn!("the spool's disk took {took:?} to sync");
        }
        let outcome = match put {
            Ok((segment, start)) => {
                let mut index = self.shared.index.lock();
                for Written { run, entry, .. } in &written {
                    let offset = as_u32(start) + entry.offset;
                    index.insert(run, Entry { segment, offset, ..*entry });
                }
                drop(index);
                self.shared.measure();
                let events = written.iter().map(|w| u64::from(w.entry.events)).sum();
                metrics::spooled(events, took);
                *self.shared.trouble.lock() = None;
                Ok(())
            }
            Err(e) => {
                let error = match e.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                        SpoolError::Full
                    }
                    _ => SpoolError::Failed { reason: e.to_string() },
                };
                let earlier = self.shared.trouble.lock().replace(e.to_string());
                if earlier.is_none() {
                    log::error!("the spool cannot be written: {e}");
                }
                Err(error)
            }
        };
        for Written { size, done, .. } in written {
            self.shared.give_back(size);
            done(outcome.clone());
        }
        outcome.is_ok()
    }

    /// Remembers what is still to be noted.
    fn remember(&mut self, drained: HashMap<RunId, u64>) {
        drained.into_iter().for_each(|(run, seq)| note_up_to(&mut self.unnoted, run, seq));
    }

    /// Notes what was drained.
    fn note(&mut self) -> io::Result<()> {
        if !self.unnoted.is_empty() {
            let mut bytes = Vec::new();
            write_notes(&mut bytes, &self.unnoted);
            self.append(&bytes, false)?;
            self.unnoted.clear();
        }
        Ok(())
    }

    /// Makes sure of the notes.
    fn settle(&mut self) -> Result<(), SpoolError> {
        if self.shared.index.lock().segments.is_empty() {
            // What is nowhere need not be noted.
            self.unnoted.clear();
        }
        let noted = match self.left_behind.first() {
            None => self.note(),
            Some(path) => Err(io::Error::other(format!("{} cannot be removed", path.display()))),
        };
        let files = |shared: &Shared| -> Vec<Arc<File>> {
            shared.index.lock().segments.values().map(|s| Arc::clone(&s.file)).collect()
        };
        noted
            .and_then(|()| files(&self.shared).iter().try_for_each(|file| file.sync_data()))
            .and_then(|()| self.sync_folder())
            .map_err(|e| {
                let reason = format!("what is in the store already could not be noted: {e}");
                SpoolError::Failed { reason }
            })
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.shared.folder).and_then(|folder| folder.sync_all())
    }

    /// Appends to the current segment, or to a new one where there is none, it is full, or it fails. Gives
    /// where the bytes are.
    fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<(u32, u64)> {
        if let Some(current) = self.current {
            let begun = self.shared.index.lock().segments.get(&current).map(|s| s.bytes);
            if begun.is_some_and(|begun| begun < SEGMENT_BYTES) {
                match self.append_to(current, bytes, sync) {
                    Err(e) if e.kind() != ErrorKind::StorageFull => {
                        log::error!("a segment of the spool failed, a new one is begun: {e}");
                    }
                    done => return done,
                }
            }
        }
        self.current = None;
        let new = self.begin()?;
        match self.append_to(new, bytes, sync) {
            Ok(done) => {
                self.current = Some(new);
                Ok(done)
            }
            Err(e) => {
                // Nothing in it was acknowledged.
                if let Some(segment) = self.shared.index.lock().segments.remove(&new) {
                    drop(fs::remove_file(segment.path));
                }
                Err(e)
            }
        }
    }

    fn append_to(&mut self, number: u32, bytes: &[u8], sync: bool) -> io::Result<(u32, u64)> {
        let (file, start) = {
            let index = self.shared.index.lock();
            let segment = index.segments.get(&number).ok_or(ErrorKind::NotFound)?;
            (Arc::clone(&segment.file), segment.bytes)
        };
        let put = file.write_all_at(bytes, start);
        let put = put.and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        if put.is_ok() && is_removed(&file) {
            self.bereft = true;
            return Err(io::Error::other("somebody has removed its file"));
        }
        if let Err(e) = put {
            // Best effort: whoever reads it after a restart should not find what was refused.
            drop(file.set_len(start).and_then(|()| file.sync_data()));
            return Err(e);
        }
        if let Some(segment) = self.shared.index.lock().segments.get_mut(&number) {
            segment.bytes = start + bytes.len() as u64;
        }
        Ok((number, start))
    }

    fn begin(&mut self) -> io::Result<u32> {
        let number = self.next_segment;
        let path = path_of(&self.shared.folder, number);
        let create = || private().create_new(true).read(true).write(true).open(&path);
        let file = match create() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.lock = lock(&self.shared.folder).map_err(io::Error::other)?;
                self.bereft = true;
                log::error!(
                    "somebody has removed {}, which is made again",
                    self.shared.folder.display()
                );
                create()?
            }
            created => created?,
        };
        self.next_segment += 1;
        // The file's name has to be on the disk as well.
        if let Err(e) = self.sync_folder() {
            drop(fs::remove_file(&path));
            return Err(e);
        }
        let segment = Segment { path, file: Arc::new(file), bytes: 0, live: 0, live_bytes: 0 };
        self.shared.index.lock().segments.insert(number, segment);
        Ok(number)
    }

    /// Removes the segments from the oldest on that are drained. A later one stays while an earlier one
    /// does: it may hold the notes of what was drained from that. What keeps an old segment while most of
    /// the disk's room is wasted is moved, a segment at a time.
    fn tidy(&mut self) {
        let mut index = self.shared.index.lock();
        let (all, mut gone) = (index.is_empty(), Vec::new());
        while let Some(oldest) = index.segments.first_entry()
            && oldest.get().live == 0
            && (all || Some(*oldest.key()) != self.current)
        {
            if Some(*oldest.key()) == self.current {
                self.current = None;
            }
            gone.push(oldest.remove().path);
        }
        let (disk, live) = (index.disk_bytes(), index.live_bytes());
        let nearly_full = disk > self.shared.max_bytes / 4 * 3 && disk > 2 * live;
        let oldest = index.segments.first_key_value().map(|(number, _)| *number);
        let movable = oldest.filter(|_| oldest != self.unmovable);
        let moving = movable.filter(|_| disk > 4 * live + 2 * SEGMENT_BYTES || nearly_full);
        let left = moving.map(|oldest| (oldest, index.in_segment(oldest)));
        drop(index);
        self.left_behind.retain(|path| remove(path).is_err());
        for path in gone {
            if let Err(e) = remove(&path) {
                log::error!("could not remove the drained {}: {e}", path.display());
                self.left_behind.push(path);
            }
        }
        if let Some((oldest, entries)) = left {
            if self.current == Some(oldest) {
                // It is moved out of the segment that is written to, too, if that is all there is.
                self.current = None;
            }
            if let Err(e) = self.move_on(oldest, &entries) {
                log::error!("could not move what is left of segment {oldest} of the spool: {e}");
            }
        }
    }

    /// Writes again what waits in files that somebody has removed: they can be read as long as they are open.
    fn restore(&mut self) {
        let index = self.shared.index.lock();
        let removed = index.segments.iter().filter(|(_, segment)| is_removed(&segment.file));
        let removed: Vec<_> =
            removed.map(|(number, _)| (*number, index.in_segment(*number))).collect();
        drop(index);
        for (number, entries) in removed {
            match self.move_on(number, &entries) {
                Ok(()) => log::warn!(
                    "{} publishes of segment {number} of the spool, whose file is gone, were written again",
                    entries.len()
                ),
                Err(e) => {
                    log::error!("could not write segment {number} of the spool again: {e}");
                    self.bereft = true;
                }
            }
        }
    }

    /// Copies the records of a segment to the current one, so that it can go. What cannot be read stays, and the
    /// segment with it.
    fn move_on(&mut self, from: u32, entries: &[(RunId, Entry)]) -> io::Result<()> {
        let (mut bytes, mut moved) = (Vec::new(), Vec::new());
        for (run, entry) in entries {
            match self.shared.read_entry(entry) {
                Ok(record) => {
                    moved.push((run, Entry { offset: as_u32(bytes.len()), ..*entry }));
                    bytes.extend_from_slice(&record);
                }
                Err(e) => {
                    log::error!("segment {from} of the spool stays, for not all can be read: {e}");
                    self.unmovable = Some(from);
                }
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        let (segment, start) = self.append(&bytes, true)?;
        let mut index = self.shared.index.lock();
        for (run, entry) in moved {
            index.moved(run, Entry { segment, offset: as_u32(start) + entry.offset, ..entry });
        }
        Ok(())
    }
}

/// A run was drained up to here, or farther: a writer that was stuck may say late what its successor has said.
fn note_up_to(notes: &mut HashMap<RunId, u64>, run: RunId, seq: u64) {
    let noted = notes.entry(run).or_insert(seq);
    *noted = seq.max(*noted);
}

/// Notes up to where runs were drained.
fn write_notes<'a>(bytes: &mut Vec<u8>, drained: impl IntoIterator<Item = (&'a RunId, &'a u64)>) {
    for (run, seq) in drained {
        record::write_drained(bytes, *seq, run);
    }
}

/// Whether the file has no name any more. One that cannot be asked is taken for one that has.
fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Removes a file, if somebody else has not.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Segments are far smaller than 4 GiB: one commit beyond `SEGMENT_BYTES` at most.
fn as_u32(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
