//! Ends connections whose client has begun something and says no more. The HTTP server limits how long the first
//! request of a connection may take to come, and none after it.
//!
//! Each of the server's threads looks through its own connections now and then, so that a request costs nothing but a
//! note of the time. Streams have limits of their own: one that was taken over is none of the server's any more, and
//! a WebSocket says that it is to be let be.

use super::connection::Glimpse;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a thread looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

thread_local! {
    static CONNECTIONS: Rc<RefCell<Vec<Glimpse>>> = Rc::default();
}

/// From now on the connection ends when it has been silent for `limit` within a request, or while one waits to be
/// answered.
pub(super) fn watch(connection: Glimpse, limit: Duration) {
    CONNECTIONS.with(|all| {
        if all.borrow().is_empty() {
            actix_web::rt::spawn(look(Rc::clone(all), limit));
        }
        all.borrow_mut().push(connection);
    });
}

/// Looks until there are no connections.
async fn look(all: Rc<RefCell<Vec<Glimpse>>>, limit: Duration) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Instant::now();
        let mut all = all.borrow_mut();
        all.retain(|connection| connection.cut_if_silent(now, limit));
        let few = 2 * all.len();
        all.shrink_to(few);
        if all.is_empty() {
            return;
        }
    }
}
