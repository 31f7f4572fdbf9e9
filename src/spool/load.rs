//! Opening the spool: takes its lock, reads every segment there is, and builds the index.
//!
//! What is not whole at the end of the last segment was being written when the hub died and was never
//! answered: it is cut off. What is damaged elsewhere is left out, the rest is kept, and the damaged file
//! stays beside the others under another name.

use super::OpenError;
use super::index::{Entry, Index, Segment};
use super::record::{self, Record};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "lock";
const SEGMENT: &str = "spool";
const DAMAGED: &str = "damaged";

/// What was found in the folder.
pub(super) struct Loaded {
    /// Held as long as the spool is open.
    pub(super) lock: File,
    pub(super) index: Index,
    /// The next record's number, and the next segment's.
    pub(super) next_seq: u64,
    pub(super) next_segment: u32,
}

/// The path of a segment.
pub(super) fn path_of(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:010}.{SEGMENT}"))
}

/// Takes the folder's lock, making the folder where it is missing. It is held as long as the file is open.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |e: io::Error| OpenError::Failed { path: folder.into(), reason: e.to_string() };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let lock = private().create(true).truncate(false).write(true).open(folder.join(LOCK));
    let lock = lock.map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.into())),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Opens the folder, making it where it is missing.
pub(super) fn load(folder: &Path) -> Result<Loaded, OpenError> {
    let failed = |e: io::Error| OpenError::Failed { path: folder.into(), reason: e.to_string() };
    let lock = lock(folder)?;
    let mut segments = Vec::new();
    for file in fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|extension| extension == SEGMENT)
        {
            segments.push((number, path));
        }
    }
    segments.sort();
    let mut loaded = Loaded { lock, index: Index::default(), next_seq: 1, next_segment: 1 };
    let last = segments.last().map(|(number, _)| *number);
    let mut drained = Vec::new();
    for (number, path) in segments {
        loaded.next_segment = number.saturating_add(1);
        loaded.read(number, path, Some(number) == last, &mut drained).map_err(failed)?;
    }
    for (run, seq) in drained {
        loaded.index.drain(&run, seq);
    }
    Ok(loaded)
}

/// Files that only their owner can read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Keeps a copy of a damaged segment, for whoever wants to look at it; it costs no room of its own until
/// the segment is removed.
pub(super) fn keep_damaged(path: &Path) {
    let kept = path.with_extension(DAMAGED);
    if let Err(e) = fs::hard_link(path, &kept)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        log::error!("could not keep the damaged {} as {}: {e}", path.display(), kept.display());
    }
}

impl Loaded {
    fn read(
        &mut self,
        number: u32,
        path: PathBuf,
        is_last: bool,
        drained: &mut Vec<(crate::event::RunId, u64)>,
    ) -> io::Result<()> {
        let bytes = fs::read(&path)?;
        let scan = record::scan(&bytes);
        let rest = bytes.len() - scan.end;
        if rest > 0 && is_last {
            log::warn!(
                "{}: the last {rest} bytes are a record that was not finished; they are cut off",
                path.display()
            );
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(scan.end as u64)?;
            file.sync_data()?;
        }
        let damaged = scan.damaged.iter().map(std::ops::Range::len).sum::<usize>()
            + if is_last { 0 } else { rest };
        if damaged > 0 {
            crate::telemetry::metrics::spool_damaged();
            log::error!(
                "{}: {damaged} bytes are damaged, first at {}; the {} whole records are kept, and the \
                 file stays as it is with the extension .{DAMAGED}",
                path.display(),
                scan.damaged.first().map_or(scan.end, |range| range.start),
                scan.records.len()
            );
            keep_damaged(&path);
        }
        let file = Arc::new(File::open(&path)?);
        let bytes = if is_last { scan.end } else { bytes.len() } as u64;
        let segment = Segment { path, file, bytes, live: 0, live_bytes: 0 };
        self.index.segments.insert(number, segment);
        for (range, record) in scan.records {
            match record {
                Record::Publish { seq, publish } => {
                    self.next_seq = self.next_seq.max(seq + 1);
                    // One that was moved may be there twice.
                    if self.index.find(&publish.run, seq).is_none() {
                        let entry = Entry {
                            seq,
                            published_ms: publish.published_ms,
                            segment: number,
                            offset: u32::try_from(range.start).map_err(io::Error::other)?,
                            length: u32::try_from(range.len()).map_err(io::Error::other)?,
                            events: u32::try_from(publish.events.len()).unwrap_or(u32::MAX),
                        };
                        self.index.insert(&publish.run, entry);
                    }
                }
                Record::Drained { seq, run } => {
                    self.next_seq = self.next_seq.max(seq + 1);
                    drained.push((run, seq));
                }
            }
        }
        Ok(())
    }
}
