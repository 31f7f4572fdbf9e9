//! A client's connection, which the HTTP server holds until a stream takes it over.
//!
//! What the server keeps for a connection, buffers above all, is worth its memory while there are requests to
//! read. A stream that stays open for hours needs none of it. So once the server has written a stream's head,
//! the stream may take the socket, and the server finds a connection that has ended.

use super::admission::Admitted;
use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The server's end of a connection.
pub(super) struct Connection(Rc<RefCell<State>>);

/// A stream's end of it.
#[derive(Clone)]
pub(super) struct Handover(Rc<RefCell<State>>);

/// A connection seen from outside, which keeps nothing open.
pub(super) struct Glimpse(Weak<RefCell<State>>);

struct State {
    /// None once it was taken over.
    socket: Option<Admitted>,
    /// Whether all that the server has written so far is on its way.
    flushed: bool,
    /// The stream that waits for that.
    waiting: Option<Waker>,
    /// When the client last said something that nothing was said to since.
    unanswered: Option<Instant>,
    /// Somebody else sees to how long it may be silent.
    let_be: bool,
}

impl Connection {
    pub(super) fn new(socket: Admitted) -> Self {
        Self(Rc::new(RefCell::new(State {
            socket: Some(socket),
            flushed: true,
            waiting: None,
            unanswered: None,
            let_be: false,
        })))
    }

    pub(super) fn handover(&self) -> Handover {
        Handover(Rc::clone(&self.0))
    }

    /// For somebody who looks at the connection now and then.
    pub(super) fn glimpse(&self) -> Glimpse {
        Glimpse(Rc::downgrade(&self.0))
    }

    /// Does something with the socket, or answers `gone` where there is none any more.
    fn with<R>(&self, gone: R, act: impl FnOnce(Pin<&mut TcpStream>) -> R) -> R {
        match &mut self.0.borrow_mut().socket {
            Some(socket) => act(Pin::new(&mut **socket)),
            None => gone,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The server is done with it, whatever it has not written: who waits for that gets nothing more.
        let waiting = {
            let state = &mut *self.0.borrow_mut();
            (state.flushed, state.socket) = (true, None);
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Handover {
    /// The server is about to write something.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().flushed = false;
    }

    /// Whoever serves the connection sees to its silence.
    pub(super) fn let_be(&self) {
        self.0.borrow_mut().let_be = true;
    }

    /// Whether a stream has the socket.
    pub(super) fn is_taken(&self) -> bool {
        self.0.borrow().socket.is_none()
    }

    /// Closes the connection once the server has written what it is about to. The server itself would wait for the
    /// rest of a chunked body for as long as its client likes.
    pub(super) fn end(&self) {
        self.begin();
        let connection = self.clone();
        actix_web::rt::spawn(async move { drop(poll_fn(|cx| connection.poll_take(cx)).await) });
    }

    /// Takes the socket, once the server has written all it had; none if it was taken before.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Admitted>> {
        let state = &mut *self.0.borrow_mut();
        if state.flushed {
            return Poll::Ready(state.socket.take());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Glimpse {
    /// Ends the connection both ways, of which the server hears, if nothing has come for `limit` since something came
    /// that was not answered. False if the server has it no more, or somebody else sees to its silence.
    pub(super) fn cut_if_silent(&self, now: Instant, limit: Duration) -> bool {
        let Some(state) = self.0.upgrade() else { return false };
        let state = state.borrow();
        let Some(socket) = state.socket.as_ref().filter(|_| !state.let_be) else { return false };
        if state.unanswered.is_some_and(|at| now.saturating_duration_since(at) >= limit) {
            // It may have ended by itself.
            drop(SockRef::from(&**socket).shutdown(Shutdown::Both));
        }
        true
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.with(Poll::Ready(Ok(())), |socket| socket.poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.0.borrow_mut().unanswered = Some(Instant::now());
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        {
            let mut state = self.0.borrow_mut();
            (state.flushed, state.unanswered) = (false, None);
        }
        // What the server says behind the end of a stream that was taken over is for nobody.
        self.with(Poll::Ready(Ok(bytes.len())), |socket| socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The server asks for this when its buffer is empty.
        let waiting = {
            let state = &mut *self.0.borrow_mut();
            state.flushed = true;
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
        self.with(Poll::Ready(Ok(())), |socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(Poll::Ready(Ok(())), |socket| socket.poll_shutdown(cx))
    }
}
