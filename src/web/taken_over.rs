//! A stream on a connection that it has taken over from the HTTP server: it writes the rest of the response
//! itself, in chunks (RFC 9112, section 7.1), and holds nothing beside the socket while it is silent. Then whoever has
//! an event may write it, by the [`Shortcut`] that the stream leaves.

use super::admission::Admitted;
use super::turns::Turn;
use crate::hub::Shortcut;
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes written at once, and no more than one item over.
const AT_ONCE: usize = 32 << 10;
/// Bytes that are rather copied than written in slices.
const COPIED: usize = 4 << 10;
/// Slices that one write takes.
const SLICES: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2 * COPIED));
}

/// What a stream sends.
pub(super) trait Source: Unpin + 'static {
    /// The next bytes; none at the end. Never empty ones.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// All is written, and the stream waits. It may leave what it writes with, for what comes next. False if there is
    /// something to take.
    fn rest(&mut self, _shortcut: impl FnOnce() -> Box<dyn Shortcut>) -> bool {
        true
    }

    /// The stream waits no more. What it has to write first.
    fn wake_up(&mut self) -> Option<Bytes> {
        None
    }
}

/// The rest of a response; ends with it, or when its reader is gone.
pub(super) struct TakenOver<S> {
    source: S,
    /// Behind the source, which may have it too: here it is dropped last, and under no lock.
    socket: Arc<Admitted>,
    turn: Turn,
    unwritten: VecDeque<Bytes>,
    ended: bool,
}

impl<S: Source> TakenOver<S> {
    pub(super) fn new(socket: Admitted, source: S) -> Self {
        let (socket, unwritten) = (Arc::new(socket), VecDeque::new());
        Self { source, socket, turn: Turn::default(), unwritten, ended: false }
    }

    /// Ready once the reader is gone. Whatever it still says is for nobody: its one request is answered.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 256];
        loop {
            if ready!(self.socket.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.try_read(&mut ignored) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.unwritten.len().min(SLICES);
            for (slice, bytes) in slices.iter_mut().zip(&self.unwritten) {
                *slice = IoSlice::new(bytes);
            }
            ready!(self.socket.poll_write_ready(cx))?;
            let mut written = match self.socket.try_write_vectored(&slices[..count]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                written => written?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(first) = self.unwritten.front_mut().filter(|_| written > 0) {
                let part = written.min(first.len());
                first.advance(part);
                written -= part;
                if first.is_empty() {
                    self.unwritten.pop_front();
                }
            }
        }
        // One that was busy once need not stay large.
        if self.unwritten.capacity() > SLICES {
            self.unwritten = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes a chunk of what there is, and sends it if it is little. True if the source has no more for now, or it is
    /// not the stream's turn.
    fn make_chunk(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut size, mut silent) = (0, false);
        while size < AT_ONCE && self.unwritten.len() < SLICES - 2 {
            match self.turn.poll(cx, |cx| self.source.poll_bytes(cx)) {
                Poll::Ready(Some(bytes)) => {
                    size += bytes.len();
                    self.unwritten.push_back(bytes);
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    break;
                }
                Poll::Pending => {
                    silent = true;
                    break;
                }
            }
        }
        if size > 0 {
            self.unwritten.push_front(format!("{size:X}\r\n").into());
            self.unwritten.push_back(Bytes::from_static(b"\r\n"));
        }
        if self.ended {
            self.unwritten.push_back(Bytes::from_static(b"0\r\n\r\n"));
        }
        if (1..=COPIED).contains(&size) {
            self.write_as_one();
        }
        silent
    }

    /// Sends what is little as one piece, which the kernel takes in less time than several. What it does not
    /// take stays.
    fn write_as_one(&mut self) {
        let left = write_at_once(&self.socket, |scratch| {
            self.unwritten.iter().for_each(|bytes| scratch.extend_from_slice(bytes));
        });
        self.unwritten.clear();
        self.unwritten.extend(left);
    }
}

/// Writes what `fill` puts together as far as that takes no waiting. What is left; an error leaves everything, and
/// comes again to whoever writes that.
fn write_at_once(socket: &Admitted, fill: impl FnOnce(&mut Vec<u8>)) -> Option<Bytes> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        fill(scratch);
        let written = socket.try_write(scratch).unwrap_or(0);
        (written < scratch.len()).then(|| Bytes::copy_from_slice(&scratch[written..]))
    })
}

/// Writes chunks past the stream.
struct PastStream(Arc<Admitted>);

impl Shortcut for PastStream {
    fn write(&mut self, size: usize, pieces: &mut dyn Iterator<Item = &Bytes>) -> Option<Bytes> {
        write_at_once(&self.0, |scratch| {
            let _ = write!(scratch, "{size:X}\r\n");
            pieces.for_each(|bytes| scratch.extend_from_slice(bytes));
            scratch.extend_from_slice(b"\r\n");
        })
    }
}

impl<S: Source> Future for TakenOver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.source.wake_up();
        self.unwritten.extend(left);
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut silent = false;
        while ready!(self.poll_write(cx)).is_ok() {
            if self.ended {
                return Poll::Ready(());
            }
            let Self { source, socket, turn, .. } = &mut *self;
            let shortcut = || Box::new(PastStream(Arc::clone(socket))) as Box<dyn Shortcut>;
            if silent && (turn.is_in_line() || source.rest(shortcut)) {
                return Poll::Pending;
            }
            silent = self.make_chunk(cx);
        }
        Poll::Ready(())
    }
}
