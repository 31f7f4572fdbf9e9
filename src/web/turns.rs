//! Turns in writing. An event of a run wakes all its streams, on one thread perhaps a thousand of them: a few
//! write at a time, and what else there is to do comes in between.
//!
//! So no request waits until a thousand streams have written, and what is published meanwhile joins what the later
//! ones write: a publisher that is answered soon makes the next write larger, not later. Streams write in the
//! order in which they were woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

/// Streams that write before something else gets the thread.
const AT_A_TIME: usize = 16;
/// How many looks a line that still grows is given before turns go on.
const LOOKS: usize = 32;

thread_local! {
    static LINE: RefCell<Line> =
        const { RefCell::new(Line { free: AT_A_TIME, waiting: VecDeque::new(), stays_until: None }) };
}

/// The streams of one thread that wait.
struct Line {
    /// Turns that may be taken without waiting. While there are none, a task gives more.
    free: usize,
    waiting: VecDeque<Waker>,
    /// Until when the thread keeps its processor.
    stays_until: Option<Instant>,
}

/// Opens the line when the task that gives turns ends. Should that end early, with the system that it runs in, whoever
/// comes on this thread in another system would wait for ever.
struct Opens;

impl Drop for Opens {
    fn drop(&mut self) {
        // The thread may be ending.
        let left = LINE.try_with(|line| {
            let mut line = line.borrow_mut();
            line.free = line.free.max(1);
            std::mem::take(&mut line.waiting)
        });
        left.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A stream's turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// It may go on when it is polled next, until it has taken everything. Else it has to ask first.
    asked: bool,
}

impl Turn {
    /// Whether what was pending last waits for its turn, not for something to take.
    pub(super) fn is_in_line(&self) -> bool {
        self.asked
    }

    /// What `next` gives, in turn.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.asked {
            self.asked = true;
            ready!(line_up(cx));
        }
        // One in the line that is woken for another reason goes early; its place in the line then wakes it in vain.
        let next = next(cx);
        self.asked = next.is_ready();
        next
    }
}

/// Ready with a turn, or pending with a place in the line.
fn line_up(cx: &Context<'_>) -> Poll<()> {
    let left = LINE.with_borrow_mut(|line| {
        if line.free == 0 {
            line.waiting.push_back(cx.waker().clone());
            return Poll::Pending;
        }
        line.free -= 1;
        Poll::Ready(line.free)
    });
    if ready!(left) == 0 {
        actix_web::rt::spawn(give_turns(Opens));
    }
    Poll::Ready(())
}

/// Gives the processor away for a moment: on a busy machine the threads that take the next event would else wait for
/// the whole line. Not again until as much time has passed, because it may be anybody who takes it.
fn let_other_threads_run() {
    let now = Instant::now();
    if LINE.with_borrow(|line| line.stays_until.is_some_and(|until| now < until)) {
        return;
    }
    std::thread::yield_now();
    let back = Instant::now();
    LINE.with_borrow_mut(|line| line.stays_until = Some(back + (back - now)));
}

/// Gives turns, a few at a time, until nobody waits.
async fn give_turns(_opens: Opens) {
    let (mut seen, mut looks) = (0, 0);
    loop {
        // Behind what is ready to run on this thread, and after a look at its sockets.
        tokio::task::yield_now().await;
        let waiting = LINE.with_borrow(|line| line.waiting.len());
        if waiting > seen && looks < LOOKS {
            // An event is still being handed out, and the thread has not come to what is behind that.
            (seen, looks) = (waiting, looks + 1);
            continue;
        }
        if waiting > 0 {
            let_other_threads_run();
        }
        let next: Vec<Waker> = LINE.with_borrow_mut(|line| {
            let count = line.waiting.len().min(AT_A_TIME);
            line.free = AT_A_TIME - count;
            line.waiting.drain(..count).collect()
        });
        (seen, looks) = (waiting - next.len(), 0);
        let line_is_empty = next.len() < AT_A_TIME;
        next.into_iter().for_each(Waker::wake);
        if line_is_empty {
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
    fn a_system_that_ends_leaves_no_closed_line() {
        let system = actix_web::rt::System::new();
        system.block_on(async {
            // All turns are taken, and the task that gives more has not run.
            (0..STREAMS).for_each(|_| drop(actix_web::rt::spawn(in_turn())));
            while LINE.with_borrow(|line| line.free > 0) {
                in_turn().await;
            }
        });
        drop(system);
        actix_web::rt::System::new().block_on(async { join_all((0..50).map(|_| in_turn())).await });
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
