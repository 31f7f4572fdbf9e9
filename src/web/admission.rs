//! How many connections there may be at once, streams included: a hub whose clients have taken all descriptors could
//! neither dial Redis nor write its spool. Whoever comes beyond that is closed at once, not left waiting.

use crate::telemetry::metrics;
use actix_web::rt::net::TcpStream;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often it is said that there are too many.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The connections of a server; see the module.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    open: AtomicUsize,
    said: Mutex<Option<Instant>>,
}

/// One of the connections that there may be.
#[derive(Debug)]
struct Place(Arc<Admission>);

/// A client's socket, which has its place for as long as it is open.
pub(super) struct Admitted {
    socket: TcpStream,
    _place: Place,
}

impl Admission {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: AtomicUsize::new(0), said: Mutex::default() })
    }

    /// Gives the socket its place; closes it if there is none.
    pub(super) fn admit(self: &Arc<Self>, socket: TcpStream) -> Option<Admitted> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if open < self.most {
            return Some(Admitted { socket, _place: place });
        }
        metrics::connection_refused();
        let mut said = self.said.lock();
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            log::warn!(
                "closed a connection: there are {} already (server.max_connections, or the limit of open files)",
                self.most
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Admitted {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.socket
    }
}

impl DerefMut for Admitted {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }
}
