//! A client's connection, which the HTTP server holds until a stream takes it over.
//!
//! What the server keeps for a connection, buffers above all, is worth its memory while there are requests to
//! read. A stream that stays open for hours needs none of it. So once the server has written a stream's head,
//! the stream may take the socket, and the server finds a connection that has ended.

use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The server's end of a connection.
pub(super) struct Connection(Rc<RefCell<State>>);

/// A stream's end of it.
#[derive(Clone)]
pub(super) struct Handover(Rc<RefCell<State>>);

struct State {
    /// None once it was taken over.
    socket: Option<TcpStream>,
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
    pub(super) fn new(socket: TcpStream) -> Self {
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

    /// Does something with the socket, or answers `gone` where there is none any more.
    fn with<R>(&self, gone: R, act: impl FnOnce(Pin<&mut TcpStream>) -> R) -> R {
        match &mut self.0.borrow_mut().socket {
            Some(socket) => act(Pin::new(socket)),
            None => gone,
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

    /// Whether the server has the connection, and nobody else sees to its silence.
    pub(super) fn is_watched(&self) -> bool {
        let state = self.0.borrow();
        Rc::strong_count(&self.0) > 1 && state.socket.is_some() && !state.let_be
    }

    /// How long nothing has come since something came that was not answered.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.0.borrow().unanswered?))
    }

    /// Ends the connection both ways, of which the server hears.
    pub(super) fn cut(&self) {
        if let Some(socket) = &self.0.borrow().socket {
            // It may have ended by itself.
            drop(SockRef::from(socket).shutdown(Shutdown::Both));
        }
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
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<TcpStream>> {
        let state = &mut *self.0.borrow_mut();
        if state.flushed {
            return Poll::Ready(state.socket.take());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
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
