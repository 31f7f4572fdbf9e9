//! Who hears first of what was stored: those who follow the run, or those who published it.
//!
//! Where threads share a processor, whoever is woken first is served first, and an answer wakes a whole HTTP
//! worker. A publisher hardly notices the difference, a reader waits for nothing else. Where readers are many it is
//! the other way round: their batches grow if more is published meanwhile, and no publisher is to wait for
//! thousands of them.

use std::future::poll_fn;
use std::mem::replace;
use std::task::Poll;

/// Publishers wait for no more readers than this.
const FEW: usize = 32;
/// How often what was woken may wake something in turn: the run's pump, the actor behind it, and the pump once
/// more; or the writer, and whoever it answers.
const ROUNDS: usize = 3;

/// Before publishers are answered: lets those hear who follow what they published, if they are few.
pub(super) async fn let_readers_hear(readers: usize) {
    if (1..=FEW).contains(&readers) {
        after_what_was_woken(ROUNDS).await;
    }
}

/// Before readers get what was published: lets the publishers be answered, if the readers are many.
pub(super) async fn let_publishers_hear(readers: usize) {
    if readers > FEW {
        for _ in 0..ROUNDS {
            // Unlike a wake-up of its own this lets in what other threads have sent meanwhile.
            tokio::task::yield_now().await;
        }
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

    #[test]
    fn who_published_comes_before_many_readers_but_not_before_a_few() {
        actix::System::new().block_on(async {
            for (readers, publisher_first) in [(FEW, false), (FEW + 1, true)] {
                let told = Rc::new(Cell::new(false));
                let publisher = Rc::clone(&told);
                actix::spawn(async move { publisher.set(true) });
                let_publishers_hear(readers).await;
                assert_eq!(told.get(), publisher_first);
            }
        });
    }
}
