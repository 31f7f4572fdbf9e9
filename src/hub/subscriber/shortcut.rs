//! The short way to a reader: while the reader's side rests, with nothing left to write, what it writes with lies in
//! the outbox. What is little is then written at once by the thread that has it, and nobody is woken.

use bytes::Bytes;

/// The most bytes that go the short way.
const LITTLE: usize = 4 << 10;

/// What a reader's side writes with, for use on any thread.
pub trait Shortcut: Send {
    /// Writes these pieces, of so many bytes in all, as far as the reader takes them without waiting. Gives back what
    /// is left, for the reader's side to write before anything else.
    fn write(&mut self, size: usize, pieces: &mut dyn Iterator<Item = &Bytes>) -> Option<Bytes>;
}

/// The short way from one outbox.
#[derive(Default)]
pub(super) struct ShortWay {
    shortcut: Option<Box<dyn Shortcut>>,
    left: Option<Bytes>,
}

impl ShortWay {
    /// The reader's side rests.
    pub(super) fn open(&mut self, shortcut: Box<dyn Shortcut>) {
        self.shortcut = Some(shortcut);
    }

    /// The reader's side is awake: nobody else writes from here on. What it has to write first.
    pub(super) fn close(&mut self) -> Option<Bytes> {
        self.shortcut = None;
        self.left.take()
    }

    /// Sends these pieces, of so many bytes in all, if they may go this way; none of them stays where it was then.
    /// Closed behind what the reader did not take whole.
    pub(super) fn send(&mut self, size: usize, pieces: &mut dyn Iterator<Item = &Bytes>) -> bool {
        let Some(shortcut) = self.shortcut.as_mut().filter(|_| (1..=LITTLE).contains(&size)) else {
            return false;
        };
        self.left = shortcut.write(size, pieces);
        if self.left.is_some() {
            self.shortcut = None;
        }
        true
    }

    /// Whether the reader's side rests.
    pub(super) fn is_open(&self) -> bool {
        self.shortcut.is_some()
    }
}
