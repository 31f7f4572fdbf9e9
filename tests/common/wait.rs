//! Waiting for something observable, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take that is not itself a time under test. Long, because a disk that is busy
/// with something else can hold up one sync for many seconds.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until `look` finds something; panics with `what` if it never does.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
