//! Lets readers hear of what was stored before its publishers are answered.
//!
//! Where threads share a processor, whoever is woken first is served first, and an answer wakes a whole HTTP
//! worker. A publisher hardly notices the difference, a reader waits for nothing else. (It works where the store hands
//! over what it has stored; tails of the embedded store have to ask for it first.) Where readers are many it is
//! the other way round: their batches grow if more is published meanwhile, and no publisher is to wait for
//! thousands of them.

use super::Core;
use super::queue::Flight;
use std::future::poll_fn;
use std::mem::replace;
use std::sync::Weak;
use std::task::Poll;

/// Publishers wait for no more readers than this.
const FEW: usize = 32;
/// How often what was woken may wake something in turn: the run's pump, the actor behind it, and the pump once
/// more.
const ROUNDS: usize = 3;

/// Lets those hear who follow what was just stored, if they are few.
pub(super) async fn let_readers_hear(core: &Weak<Core>, flight: &Flight) {
    let readers = core.upgrade().map_or(0, |core| {
        flight.appends().iter().map(|append| core.registry.subscribers(&append.run)).sum()
    });
    if (1..=FEW).contains(&readers) {
        after_what_was_woken(ROUNDS).await;
    }
}

/// Comes back when all that waits to run on this thread has run, so many times.
async fn after_what_was_woken(rounds: usize) {
    for _ in 0..rounds {
        let mut waited = false;
        poll_fn(|cx| {
            if replace(&mut waited, true) {
                return Poll::Ready(());
            }
            // To the end of the queue.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::sync::Notify;

    #[test]
    fn what_was_woken_and_what_that_wakes_comes_first() {
        actix::System::new().block_on(async {
            let (pump, actor) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            let heard = Rc::new(Cell::new(false));
            let (p, a, h) = (Rc::clone(&pump), Rc::clone(&actor), Rc::clone(&heard));
            actix::spawn(async move {
                p.notified().await;
                a.notify_one();
            });
            actix::spawn(async move {
                actor.notified().await;
                h.set(true);
            });
            after_what_was_woken(1).await;
            let writer = actix::spawn(async move {
                pump.notify_one();
                after_what_was_woken(ROUNDS).await;
                heard.get()
            });
            assert!(writer.await.unwrap());
        });
    }
}
