//! Lookouts: connections that wait at one stream each, with an `XREAD` that blocks.
//!
//! To be told of a change and then to read it is twice the way to the server and back. So a stream that others
//! keep writing to gets a connection of its own, on which its events come by themselves: as many streams as
//! `redis.max_readers` has room for. All others are read by the [`reader`](super::reader), and so is one
//! whose lookout was lost or called back; which has one is decided in the [`roster`](super::roster). On a stream that
//! this hub appends to none would be of use, since what it appends is known before.

use super::ask::send;
use super::link::{checked, is_elsewhere};
use super::reader::{COUNT, IDLE, Reader};
use super::readers::Tools;
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
    /// Wakes one that has no stream. Those hold this, and those that still connect.
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
    let unreachable = |reason| StoreError::Unreachable { reason };
    let dialled = tools.making.dialer.dial_to_hear(limit(&tools) * 2, |_| Ok::<(), ()>(())).await;
    let mut connection = dialled.map_err(unreachable)?;
    if !has_room(&mut connection, &tools).await? {
        return Err(unreachable("the server has room for few more clients".to_owned()));
    }
    loop {
        let sent = reader.roster.lock().send_lookout(Instant::now());
        let Some(lookout) = sent else {
            match timeout(IDLE, free.notified()).await {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            }
        };
        let others = Arc::downgrade(&free);
        drop(free);
        let mut sent = Sent { lookout, reader: &reader };
        match stay(&mut sent.lookout, &mut connection, &reader, &tools).await {
            // What stands there the reader finds out.
            Ok(()) | Err(StoreError::BrokenRun { .. }) => {}
            Err(error) if is_elsewhere(&error) => {}
            Err(error) => return Err(error),
        }
        drop(sent);
        match others.upgrade() {
            Some(again) => free = again,
            None => return Ok(()),
        }
    }
}

/// A lookout that is out. However it comes back, its stream is the reader's again.
struct Sent<'a> {
    lookout: Lookout,
    reader: &'a Reader,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.reader.roster.lock().lookout_is_back(&self.lookout);
        self.reader.work.notify_one();
    }
}

/// Whether the server has room for many more clients: lookouts are not to take what others need.
async fn has_room(
    connection: &mut MultiplexedConnection,
    tools: &Tools,
) -> Result<bool, StoreError> {
    let mut command = redis::cmd("INFO");
    command.arg("clients");
    let Ok(reply) = checked(send(connection, &command, limit(tools)).await?) else {
        // Who may not ask is not told; then the configured number has to do.
        return Ok(true);
    };
    let info = reply::text(&reply)?;
    let number =
        |name: &str| -> Option<u64> { reply::said_in_info(info, name)?.trim().parse().ok() };
    Ok(match (number("connected_clients"), number("maxclients")) {
        (Some(connected), Some(most)) => connected <= most / 2,
        _ => true,
    })
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
    let reply = send(connection, &command, limit(tools)).await?;
    let stream = reply::streams(checked(reply)?)?.pop();
    stream.map_or(Ok(Vec::new()), |(_, entries)| reply::events(run, key, entries))
}

/// How long the answer to a wait may take. The server's own limit runs on its wall clock.
fn limit(tools: &Tools) -> Duration {
    PATIENCE + tools.making.timeout
}
