//! A client's connection, which the HTTP server holds until a stream takes it over.
//!
//! What the server keeps for a connection, buffers above all, is worth its memory while there are requests to
//! read. A stream that stays open for hours needs none of it. So once the server has written a stream's head,
//! the stream may take the socket, and the server finds a connection that has ended.

use actix_web::rt::net::TcpStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
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
}

impl Connection {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self(Rc::new(RefCell::new(State { socket: Some(socket), flushed: true, waiting: None })))
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
        self.with(Poll::Ready(Ok(())), |socket| socket.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What the server says behind the end of a stream that was taken over is for nobody.
        self.0.borrow_mut().flushed = false;
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
