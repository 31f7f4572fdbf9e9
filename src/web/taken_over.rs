//! A stream on a connection that it has taken over from the HTTP server: it writes the rest of the response
//! itself, in chunks (RFC 9112, section 7.1), and holds nothing beside the socket while it is silent.

use super::admission::Admitted;
use super::turns::Turn;
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
}

/// The rest of a response; ends with it, or when its reader is gone.
pub(super) struct TakenOver<S> {
    socket: Admitted,
    source: S,
    turn: Turn,
    unwritten: VecDeque<Bytes>,
    ended: bool,
}

impl<S: Source> TakenOver<S> {
    pub(super) fn new(socket: Admitted, source: S) -> Self {
        Self { socket, source, turn: Turn::default(), unwritten: VecDeque::new(), ended: false }
    }

    /// Ready once the reader is gone. Whatever it still says is for nobody: its one request is answered.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            match ready!(Pin::new(&mut *self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
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
            let socket = Pin::new(&mut *self.socket);
            let mut written = ready!(socket.poll_write_vectored(cx, &slices[..count]))?;
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

    /// Makes a chunk of what there is, and sends it if it is little. True if the source has no more for now.
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
            self.write_as_one(cx);
        }
        silent
    }

    /// Sends what is little as one piece, which the kernel takes in less time than several. What it does not
    /// take stays.
    fn write_as_one(&mut self, cx: &mut Context<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            self.unwritten.iter().for_each(|bytes| scratch.extend_from_slice(bytes));
            if let Poll::Ready(Ok(written)) = Pin::new(&mut *self.socket).poll_write(cx, scratch) {
                self.unwritten.clear();
                if written < scratch.len() {
                    self.unwritten.push_back(Bytes::copy_from_slice(&scratch[written..]));
                }
            }
        });
    }
}

impl<S: Source> Future for TakenOver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut silent = false;
        while ready!(self.poll_write(cx)).is_ok() {
            if self.ended {
                return Poll::Ready(());
            }
            if silent {
                return Poll::Pending;
            }
            silent = self.make_chunk(cx);
        }
        Poll::Ready(())
    }
}
