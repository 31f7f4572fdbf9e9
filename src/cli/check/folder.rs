//! Looks at the hub's folders without changing what is in them.

use super::Finding;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Whether a hub could make the folder, or write in it. Tried with a file that is removed again, in the
/// folder or, where it is missing, in the nearest one above it that is there.
pub(super) fn writable(folder: &Path) -> Finding {
    let shown = folder.display();
    let advice = "make it writable, or choose another folder with --data-dir";
    let there = folder.ancestors().find(|path| path.exists());
    // A path such as `data` ends in the working directory.
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match write_and_remove(there) {
        Ok(()) if there == folder => Ok(format!("{shown} can be written")),
        Ok(()) => Ok(format!("{shown} can be made")),
        Err(e) if there == folder => Err(format!("{shown} cannot be written: {e}; {advice}")),
        Err(e) => Err(format!("{shown} cannot be made in {}: {e}; {advice}", there.display())),
    }
}

fn write_and_remove(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".runhub-check-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    // A disk may have room for a name and none for content.
    let written = file.write_all(b"runhub check\n").and_then(|()| file.sync_data());
    fs::remove_file(&path)?;
    written
}

/// Whether a hub could take the lock of this folder, or which process holds it; that a hub is running is no
/// fault. `how` stands before the folder's name.
pub(super) fn free(folder: &Path, how: &str) -> Finding {
    let (shown, lock) = (folder.display(), folder.join("lock"));
    let advice = "give the hub's user the right to, or choose another folder with --data-dir";
    match OpenOptions::new().read(true).write(true).open(&lock) {
        Ok(file) => match holder(&file) {
            Ok(Some(process)) => {
                Ok(format!("{how} {shown}, in use by a running hub (process {process})"))
            }
            Ok(None) => Ok(format!("{how} {shown}, not in use")),
            Err(e) => Err(format!("{how} {shown}: cannot see whether it is in use: {e}")),
        },
        Err(e) if e.kind() == ErrorKind::NotFound && !folder.exists() => {
            Ok(format!("{how} {shown}, not made yet"))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(format!("{how} {shown}, not in use")),
        Err(e) => Err(format!("{how} {shown}: cannot open its lock: {e}; {advice}")),
    }
}

/// The process that holds a lock on the file. The kernel's list is read: to try the lock would be to hold it,
/// and a hub that starts in that moment would find the folder in use.
fn holder(file: &fs::File) -> io::Result<Option<String>> {
    let file = file.metadata()?;
    let (device, inode) = (file.dev(), file.ino());
    // As the kernel takes a device's number apart.
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(holder_among(&locks, &wanted))
}

/// `1: FLOCK  ADVISORY  WRITE 613 fe:00:42 0 EOF`; who waits for a lock has an arrow before its kind.
fn holder_among(locks: &str, wanted: &str) -> Option<String> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, process, place) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && place == wanted).then(|| process.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 fe:00:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 fe:00:43 0 EOF\n";
        assert_eq!(holder_among(locks, "fe:00:42").as_deref(), Some("8"));
        assert_eq!(holder_among(locks, "fe:00:43"), None);
    }

    #[test]
    fn a_lock_that_is_held_is_seen_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let said = |named: &str| {
            let said = free(folder.path(), "in").unwrap();
            assert!(said.contains(named), "{said}");
        };
        said("not in use");
        let lock = fs::File::create(folder.path().join("lock")).unwrap();
        said("not in use");
        lock.lock().unwrap();
        said(&format!("in use by a running hub (process {})", std::process::id()));
        drop(lock);
        said("not in use");
    }
}
