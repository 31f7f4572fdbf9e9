//! The pipe that a command writes into, `head` at its other end, say.

/// Ends the process, as one that has done its work, when nobody reads its output any more: else it would notice only
/// when it has something to write, which may be never.
#[cfg(target_os = "linux")]
pub(super) fn end_with_the_reader() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    std::thread::spawn(|| {
        let stdout = std::io::stdout();
        // Of an error one is told without asking, and of nothing else then (poll(2)).
        let mut output = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut output, None) == Err(Errno::INTR) {}
        if output[0].revents().contains(PollFlags::ERR) {
            std::process::exit(0);
        }
    });
}

/// Elsewhere the next event tells.
#[cfg(not(target_os = "linux"))]
pub(super) fn end_with_the_reader() {}
