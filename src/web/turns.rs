//! Turns in writing. An event of a run wakes all its streams, on one thread perhaps a thousand of them: a few
//! write at a time, and what else there is to do comes in between.
//!
//! So no request waits until a thousand streams have written, and what is published meanwhile joins what the later
//! ones write: a publisher that is answered soon makes the next write larger, not later. Streams write in the
//! order in which they were woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker, ready};

/// Streams that write before something else gets the thread.
const AT_A_TIME: usize = 16;
/// How often a line that still grows is let grow. More would be long for those in it.
const GROWS: usize = 32;

thread_local! {
    static LINE: RefCell<Line> =
        const { RefCell::new(Line { free: AT_A_TIME, waiting: VecDeque::new() }) };
}

/// The streams of one thread that wait.
struct Line {
    /// Turns that may be taken without waiting. Once there are none, a task gives more.
    free: usize,
    waiting: VecDeque<Waker>,
}

/// A stream's turn.
#[derive(Debug, Default)]
pub(super) enum Turn {
    /// It has none, and needs one before it takes what there is for it.
    #[default]
    None,
    /// It stands in the line.
    Awaited,
    /// It may go on until it has taken everything.
    Taken,
}

impl Turn {
    /// What `next` gives, in turn.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if matches!(self, Self::None) {
            ready!(self.line_up(cx));
        }
        // One in the line that is woken for another reason goes early, which does no harm.
        let next = next(cx);
        *self = if next.is_ready() { Self::Taken } else { Self::None };
        next
    }

    fn line_up(&mut self, cx: &Context<'_>) -> Poll<()> {
        LINE.with_borrow_mut(|line| {
            if line.free == 0 {
                line.waiting.push_back(cx.waker().clone());
                *self = Self::Awaited;
                return Poll::Pending;
            }
            line.free -= 1;
            if line.free == 0 {
                actix_web::rt::spawn(give_turns());
            }
            Poll::Ready(())
        })
    }
}

/// Gives turns, a few at a time, until nobody waits.
async fn give_turns() {
    let (mut seen, mut grown) = (0, 0);
    loop {
        // Behind what is ready to run on this thread, and after a look at its sockets.
        tokio::task::yield_now().await;
        let waiting = LINE.with_borrow(|line| line.waiting.len());
        if waiting > seen && grown < GROWS {
            // An event is still being handed out, and the thread has not come to what is behind that.
            (seen, grown) = (waiting, grown + 1);
            continue;
        }
        if waiting > 0 {
            // Other threads too: on a busy machine those that take the next event would wait for the whole line.
            std::thread::yield_now();
        }
        let next: Vec<Waker> = LINE.with_borrow_mut(|line| {
            let count = line.waiting.len().min(AT_A_TIME);
            line.free = AT_A_TIME - count;
            line.waiting.drain(..count).collect()
        });
        (seen, grown) = (waiting - next.len(), 0);
        let all = next.len() < AT_A_TIME;
        next.into_iter().for_each(Waker::wake);
        if all {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use tokio::sync::Notify;

    const STREAMS: usize = 200;

    async fn in_turn() {
        let mut turn = Turn::default();
        poll_fn(|cx| turn.poll(cx, |_| Poll::Ready(()))).await;
    }

    /// What streams wrote that an event woke all at once, and how many had written when each of as many requests,
    /// which came one after the other, was served.
    async fn one_round() -> (Vec<usize>, Vec<usize>) {
        let (event, written) = (Rc::new(Notify::new()), Rc::new(RefCell::new(Vec::new())));
        let ready = Rc::new(Cell::new(0));
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let (event, written) = (Rc::clone(&event), Rc::clone(&written));
                let ready = Rc::clone(&ready);
                actix_web::rt::spawn(async move {
                    ready.set(ready.get() + 1);
                    event.notified().await;
                    in_turn().await;
                    written.borrow_mut().push(number);
                })
            })
            .collect();
        while ready.get() < STREAMS {
            tokio::task::yield_now().await;
        }
        event.notify_waiters();
        let requests = actix_web::rt::spawn({
            let written = Rc::clone(&written);
            async move {
                let mut served = Vec::new();
                for _ in 0..STREAMS {
                    served.push(written.borrow().len());
                    actix_web::rt::spawn(async {}).await.unwrap();
                }
                served
            }
        });
        join_all(streams).await.into_iter().for_each(|stream| stream.unwrap());
        let served = requests.await.unwrap();
        (written.take(), served)
    }

    #[test]
    fn streams_write_in_order_and_let_requests_in_between() {
        actix_web::rt::System::new().block_on(async {
            for _ in 0..3 {
                let (written, served) = one_round().await;
                assert_eq!(written, (0..STREAMS).collect::<Vec<_>>());
                assert!(served[0] <= 16, "{served:?}");
                let most = served.windows(2).map(|pair| pair[1] - pair[0]).max();
                assert!(most <= Some(16), "{served:?}");
                assert_eq!(LINE.with_borrow(|line| line.waiting.len()), 0);
            }
        });
    }

    #[test]
    fn a_stream_that_is_gone_holds_up_nobody() {
        actix_web::rt::System::new().block_on(async {
            let gone: Vec<_> = (0..STREAMS).map(|_| actix_web::rt::spawn(in_turn())).collect();
            tokio::task::yield_now().await;
            gone.iter().for_each(actix_web::rt::task::JoinHandle::abort);
            in_turn().await;
        });
    }
}
