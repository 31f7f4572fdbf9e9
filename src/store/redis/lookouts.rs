//! Lookouts: connections that wait at one stream each, with an `XREAD` that blocks.
//!
//! To be told of a change and then to read it is twice the way to the server and back. So a stream that others
//! keep writing to gets a connection of its own, on which its events come by themselves: as many streams as
//! `redis.max_readers` has room for. All others are read by the [`reader`](super::reader), and so is one
//! whose lookout was lost or called back; which has one is decided in the [`roster`](super::roster). On a stream that
//! this hub appends to none would be of use, since what it appends is known before.

use super::dial::describe;
use super::link::checked;
use super::reader::{COUNT, IDLE, Reader, Tools};
use super::reply;
use super::roster::{Lookout, Wanted};
use crate::event::StoredEvent;
use crate::store::StoreError;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a lookout waits before it says that it saw nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long no connection is made after one that was not to be had, or was lost.
const PAUSE: Duration = Duration::from_secs(5);

/// The lookouts of a reader, which end with it.
pub(super) struct Lookouts {
    tasks: JoinSet<Result<(), StoreError>>,
    /// Wakes one that is free. All that are hold this.
    free: Arc<Notify>,
    not_before: Option<Instant>,
}

impl Lookouts {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), free: Arc::default(), not_before: None }
    }

    /// Sees to it that a stream gets a lookout that wants one, if there is one to be had. Those that are free find
    /// more streams by themselves.
    pub(super) fn send_one(&mut self, reader: &Arc<Reader>, tools: &Tools) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(Err(error)) = ended {
                log::debug!("a connection that waited for new events was lost: {error}");
                self.not_before = Some(Instant::now() + PAUSE);
            }
        }
        if Arc::strong_count(&self.free) > 1 {
            // It may still be connecting; then it looks by itself.
            self.free.notify_one();
        } else if self.not_before.is_none_or(|at| at <= Instant::now())
            && let Ok(permit) = Arc::clone(&tools.lookouts).try_acquire_owned()
        {
            let (reader, tools, free) = (Arc::clone(reader), tools.clone(), Arc::clone(&self.free));
            self.tasks.spawn(look_out(reader, tools, free, permit));
        }
    }
}

/// Goes from one stream to the next, until none is found for a while.
async fn look_out(
    reader: Arc<Reader>,
    tools: Tools,
    mut free: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
) -> Result<(), StoreError> {
    let dialled = tools.making.dialer.dial_to_hear(limit(&tools) * 2, |_| Ok::<(), ()>(())).await;
    let mut connection = dialled.map_err(|reason| StoreError::Unreachable { reason })?;
    loop {
        let sent = reader.roster.lock().send_lookout(Instant::now());
        let Some(mut lookout) = sent else {
            match timeout(IDLE, free.notified()).await {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            }
        };
        let others = Arc::downgrade(&free);
        drop(free);
        let stayed = stay(&mut lookout, &mut connection, &reader, &tools).await;
        // From here on the stream is the reader's again.
        reader.roster.lock().lookout_is_lost(&lookout);
        reader.work.notify_one();
        stayed?;
        match others.upgrade() {
            Some(again) => free = again,
            None => return Ok(()),
        }
    }
}

/// Stays at a stream until it is called back.
async fn stay(
    lookout: &mut Lookout,
    connection: &mut MultiplexedConnection,
    reader: &Reader,
    tools: &Tools,
) -> Result<(), StoreError> {
    loop {
        let events = wait_at(&lookout.at, connection, tools).await?;
        if !reader.roster.lock().seen(lookout, events, Instant::now()) {
            return Ok(());
        }
        // What was seen goes its way before the server is put to work again.
        tokio::task::yield_now().await;
    }
}

/// What comes behind a place, or nothing within [`PATIENCE`].
async fn wait_at(
    place: &Wanted,
    connection: &mut MultiplexedConnection,
    tools: &Tools,
) -> Result<Vec<StoredEvent>, StoreError> {
    let Wanted { run, key, after } = place;
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(COUNT).arg("BLOCK").arg(PATIENCE.as_millis() as u64);
    command.arg("STREAMS").arg(&key.name).arg(after.to_string());
    // The server's own limit runs on its wall clock.
    let sent = timeout(limit(tools), connection.send_packed_command(&command)).await;
    let reply = sent
        .map_err(|_| StoreError::NoAnswer { reason: "no reply in time".into() })?
        .map_err(|e| StoreError::NoAnswer { reason: describe(&e) })?;
    let stream = reply::streams(checked(reply)?)?.pop();
    stream.map_or(Ok(Vec::new()), |(_, entries)| reply::events(run, key, entries))
}

fn limit(tools: &Tools) -> Duration {
    PATIENCE + tools.making.timeout
}
