//! The thread of the subscribers: a task each, and one buffer into which all of them read.

use crate::mark::{Mark, Marks, now};
use crate::subscribers::{Counters, Follow, Heard};
use crate::tally::Tally;
use crate::wire::Wire;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::ready;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

/// How many connects are under way at once.
const CONNECTING: usize = 256;

/// What the tasks of the thread share.
struct Shared {
    follow: Arc<Follow>,
    counters: Arc<Counters>,
    heard: RefCell<Heard>,
    buffer: RefCell<Vec<u8>>,
    connecting: Semaphore,
    began: u64,
}

/// Has them all listen until they are stopped.
pub fn serve(follow: &Arc<Follow>, counters: &Arc<Counters>, stop: &Notify, began: u64) -> Heard {
    let first = follow.after.as_ref().map_or(1, |(_, sequence)| sequence + 1);
    let tallies = |subscriber| vec![Tally::from(first); follow.runs_of(subscriber).len()];
    let tallies = (0..follow.subscribers).map(tallies).collect();
    let shared = Rc::new(Shared {
        follow: Arc::clone(follow),
        counters: Arc::clone(counters),
        heard: RefCell::new(Heard { tallies, ..Heard::default() }),
        buffer: RefCell::new(vec![0; 256 * 1024]),
        connecting: Semaphore::new(CONNECTING),
        began,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        for subscriber in 0..follow.subscribers {
            let shared = Rc::clone(&shared);
            tokio::task::spawn_local(async move {
                if let Err(trouble) = shared.listen(subscriber).await {
                    let counters = &shared.counters;
                    counters.trouble.lock().unwrap().get_or_insert(trouble);
                    counters.cut.fetch_add(1, Relaxed);
                }
            });
        }
        stop.notified().await;
    });
    shared.heard.take()
}

impl Shared {
    /// Listens until it is dropped; whatever ends it before is trouble.
    async fn listen(&self, subscriber: usize) -> Result<(), String> {
        let Follow { target, runs, after, .. } = &*self.follow;
        let runs = &runs[self.follow.runs_of(subscriber)];
        let mut permit = self.connecting.acquire().await.ok();
        let stream = TcpStream::connect(target.address).await;
        let mut stream =
            stream.map_err(|e| format!("cannot connect to {}: {e}", target.address))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut next = Some(target.subscribe(runs, after.as_ref().map(|(id, _)| id.as_str())));
        let (mut wire, mut marks) = (Wire::new(target, &runs[0]), Marks::default());
        loop {
            if let Some(request) = next {
                stream.write_all(&request).await.map_err(|e| format!("cannot write: {e}"))?;
            }
            if wire.is_open() && permit.take().is_some() {
                self.counters.connected.fetch_add(1, Relaxed);
            }
            next = self.read(&mut stream, subscriber, &mut wire, &mut marks).await?;
        }
    }

    /// Reads once; what is to be sent then, if anything.
    async fn read(
        &self,
        stream: &mut TcpStream,
        subscriber: usize,
        wire: &mut Wire,
        marks: &mut Marks,
    ) -> Result<Option<Vec<u8>>, String> {
        std::future::poll_fn(|context| {
            let mut buffer = self.buffer.borrow_mut();
            let mut read = ReadBuf::new(&mut buffer);
            let result = ready!(Pin::new(&mut *stream).poll_read(context, &mut read));
            result.map_err(|e| format!("cannot read: {e}"))?;
            if read.filled().is_empty() {
                return Err("the server has ended the stream".to_owned()).into();
            }
            let (now, mut fresh) = (now(), 0);
            let mut heard = self.heard.borrow_mut();
            let mut note = |mark| fresh += u64::from(self.note(&mut heard, subscriber, mark, now));
            let next = wire.feed(read.filled(), &mut |part| marks.feed(part, &mut note))?;
            if fresh > 0 {
                self.counters.last.store(now, Relaxed);
                self.counters.delivered.fetch_add(fresh, Relaxed);
            }
            Ok(next).into()
        })
        .await
    }

    /// Whether the event is new to this subscriber.
    fn note(&self, heard: &mut Heard, subscriber: usize, mark: Mark, now: u64) -> bool {
        let place = (mark.run as usize).checked_sub(self.follow.runs_of(subscriber).start);
        let tally = place.and_then(|place| heard.tallies[subscriber].get_mut(place));
        let Some(tally) = tally else {
            heard.strays += 1;
            return false;
        };
        if !tally.note(mark.sequence) {
            return false;
        }
        heard.latency.record(now.saturating_sub(mark.sent));
        if self.follow.goal == Some(tally.seen) {
            heard.caught_up.record(now.saturating_sub(self.began));
        }
        true
    }
}
