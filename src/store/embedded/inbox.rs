//! What the store's thread has been asked, and which appends are worth waiting for.
//!
//! A sync of the disk takes as long for many appends as for one. Whoever was just answered comes back at once, if
//! there is more; whoever came during the commit waits already. So the next commit waits a moment until all of
//! them are there: else they would take turns, and each of them would wait for the others' syncs too. Questions that
//! came with an append wait with it, as they do for its commit.

use super::worker::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The most commands taken together.
const GATHER: usize = 512;
/// The longest that a commit waits for appends.
const LONGEST_WAIT: Duration = Duration::from_micros(500);

pub(super) struct Inbox {
    commands: Receiver<Command>,
    /// Taken out, and not handled yet.
    waiting: Vec<Command>,
    /// So many appends are likely to be there by then.
    expected: (usize, Instant),
}

impl Inbox {
    pub(super) fn new(commands: Receiver<Command>) -> Self {
        Self { commands, waiting: Vec::new(), expected: (0, Instant::now()) }
    }

    /// The commands to handle next, one at least. Waits for it no longer than `patience`.
    pub(super) fn next(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Vec<Command>, RecvTimeoutError> {
        self.take_what_waits();
        if self.waiting.is_empty() {
            self.waiting.push(match patience {
                Some(patience) => self.commands.recv_timeout(patience)?,
                None => self.commands.recv()?,
            });
            self.take_what_waits();
        }
        let (expected, until) = self.expected;
        let mut appends = self.appends();
        while (1..expected).contains(&appends) && self.waiting.len() < GATHER {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(command) = self.commands.recv_timeout(left) else { break };
            appends += usize::from(is_append(&command));
            self.waiting.push(command);
        }
        Ok(std::mem::take(&mut self.waiting))
    }

    /// So many appends were committed, in this time, and are about to be answered.
    pub(super) fn committed(&mut self, appends: usize, took: Duration) {
        self.take_what_waits();
        // Half of what it would cost them to wait for another commit.
        let until = Instant::now() + (took / 2).min(LONGEST_WAIT);
        self.expected = (appends + self.appends(), until);
    }

    fn take_what_waits(&mut self) {
        let room = GATHER.saturating_sub(self.waiting.len());
        self.waiting.extend(self.commands.try_iter().take(room));
    }

    fn appends(&self) -> usize {
        self.waiting.iter().filter(|command| is_append(command)).count()
    }
}

fn is_append(command: &Command) -> bool {
    matches!(command, Command::Append(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use tokio::sync::oneshot;

    fn send_append(to: &Sender<Command>) {
        to.send(Command::Append(Vec::new(), oneshot::channel().0)).unwrap();
    }

    fn send_probe(to: &Sender<Command>) {
        to.send(Command::Probe(oneshot::channel().0)).unwrap();
    }

    fn next(inbox: &mut Inbox) -> usize {
        inbox.next(None).unwrap().len()
    }

    #[test]
    fn who_was_answered_and_who_came_meanwhile_are_expected() {
        let (sender, commands) = channel();
        let mut inbox = Inbox::new(commands);
        send_append(&sender);
        send_append(&sender);
        assert_eq!(next(&mut inbox), 2);
        send_append(&sender);
        send_probe(&sender);
        inbox.committed(2, Duration::ZERO);
        assert_eq!(inbox.expected.0, 3);
        // Nobody is waited for longer than that.
        assert_eq!(next(&mut inbox), 2);
    }

    #[test]
    fn a_commit_waits_for_those_who_are_expected_and_for_nobody_else() {
        let (sender, commands) = channel();
        let mut inbox = Inbox::new(commands);
        let far = Instant::now() + Duration::from_secs(3600);
        inbox.expected = (2, far);
        send_append(&sender);
        let second = sender.clone();
        let later = std::thread::spawn(move || {
            send_probe(&second);
            send_append(&second);
        });
        assert_eq!(next(&mut inbox), 3);
        later.join().unwrap();
        inbox.expected = (1, far);
        send_append(&sender);
        assert_eq!(next(&mut inbox), 1);
        // What is no append waits for none.
        inbox.expected = (2, far);
        send_probe(&sender);
        assert_eq!(next(&mut inbox), 1);
    }

    #[test]
    fn what_was_sent_before_the_last_sender_went_is_still_handled() {
        let (sender, commands) = channel();
        let mut inbox = Inbox::new(commands);
        inbox.expected = (2, Instant::now() + Duration::from_secs(3600));
        send_append(&sender);
        drop(sender);
        assert_eq!(next(&mut inbox), 1);
        assert_eq!(inbox.next(None).err(), Some(RecvTimeoutError::Disconnected));
    }
}
