//! The readers of followed runs: one connection a thread, however many runs it reads for.
//!
//! A reader asks with `XREAD`, which does not block, and has the server remember what it asked for
//! (`CLIENT TRACKING`): of each stream that was read the server tells once when it is written to, deleted or
//! expires, and remembers it again with the next read. Reading and remembering are one step of the server,
//! so nothing falls between them, and a run that nothing happens to costs nothing. What is read is decided
//! in [`roster`](super::roster). What this process appends itself is handed to the follower with the answer
//! to the append, where the server says that it directly follows what was read.
//!
//! A reader whose connection is lost reads everything again from where it stands. Of streams in which it found
//! nothing then, or after a notice, it asks how far they go, every [`CHECK_EVERY`]: that is how it hears that
//! one was deleted, or the store rolled back. Where job streams are served it asks of all, and looks whether a
//! run has another stream by now.

use super::ask::{send, send_all};
use super::dial::describe;
use super::heads::STREAMS_A_CHECK;
use super::link::{checked, is_not_here, jittered};
use super::lookouts::Lookouts;
use super::pace::Pace;
use super::readers::Tools;
use super::reply;
use super::roster::{Roster, Wanted};
use crate::store::StoreError;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// Streams asked for in one `XREAD`.
const STREAMS_A_READ: usize = 64;
/// Where more streams are read at a time than this, there is so much to read that waiting at each would cost more than
/// it gives.
const FEW: usize = 8;
/// Events read of one stream at a time.
pub(super) const COUNT: usize = 128;
/// How often the streams' heads are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The same where job streams are served: one that begins is to be heard of within two seconds, and a read
/// under way may take one.
const CHECK_JOBS_EVERY: Duration = Duration::from_secs(1);
/// How often all streams are read from a server that does not tell of changes.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// How long a connection is kept that is not needed.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a reader and its followers share.
pub(super) struct Reader {
    pub(super) roster: Mutex<Roster>,
    /// There is something to do.
    pub(super) work: Notify,
}

impl Reader {
    /// Reads for ever, on one connection after the other.
    pub(super) async fn work(self: Arc<Self>, tools: Tools) {
        let _end = End(Arc::clone(&self));
        let (mut pause, mut pace) = (FIRST_PAUSE, Pace::default());
        loop {
            if self.roster.lock().is_empty() {
                self.work.notified().await;
                continue;
            }
            let began = Instant::now();
            let lost = match self.connect(&tools).await {
                Ok((mut connection, told)) => {
                    match self.serve(&mut connection, told, &mut pace, &tools).await {
                        Ok(()) => continue,
                        Err(error) => error.to_string(),
                    }
                }
                Err(reason) => reason,
            };
            // The links report what is wrong with the server.
            log::debug!("a reader lost its connection to Redis: {lost}");
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A connection, and whether its server tells of changes.
    async fn connect(
        self: &Arc<Self>,
        tools: &Tools,
    ) -> Result<(MultiplexedConnection, bool), String> {
        let reader = Arc::downgrade(self);
        let listener = move |push: PushInfo| {
            // Whoever is gone need not be told.
            reader.upgrade().map(|reader| reader.hear(&push)).ok_or(())
        };
        let mut connection =
            tools.making.dialer.dial_to_hear(tools.making.timeout, listener).await?;
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON");
        match connection.send_packed_command(&command).await.map_err(|e| describe(&e))? {
            Value::ServerError(e) => {
                log::warn!(
                    "Redis does not tell of changes, so followed runs are read every {POLL_EVERY:?}: \
                     CLIENT TRACKING was answered {} {}",
                    e.code(),
                    e.details().unwrap_or_default()
                );
                Ok((connection, false))
            }
            _ => Ok((connection, true)),
        }
    }

    /// What the server says unasked.
    fn hear(&self, push: &PushInfo) {
        match (&push.kind, push.data.first()) {
            (PushKind::Invalidate, Some(Value::Array(names))) => {
                let mut roster = self.roster.lock();
                for name in names {
                    if let Ok(name) = reply::bytes(name) {
                        roster.stream_changed(name);
                    }
                }
            }
            // Everything is gone, or the connection is.
            (PushKind::Invalidate | PushKind::Disconnection, _) => self.roster.lock().all_changed(),
            _ => return,
        }
        self.work.notify_one();
    }

    /// Reads on one connection until it is lost, or has not been needed for a while.
    async fn serve(
        self: &Arc<Self>,
        connection: &mut MultiplexedConnection,
        told: bool,
        pace: &mut Pace,
        tools: &Tools,
    ) -> Result<(), StoreError> {
        let losses = tools.making.losses.load(Ordering::Relaxed);
        let jobs = tools.streams.serves_jobs();
        let check_every = if jobs { CHECK_JOBS_EVERY } else { CHECK_EVERY };
        let (mut doubtful, mut lookouts) = (Vec::new(), Lookouts::new());
        let mut check_at = Instant::now() + check_every;
        self.roster.lock().all_changed();
        loop {
            let (wanted, rested, wants_lookout) = {
                let mut roster = self.roster.lock();
                let wanted = roster.next_read(pace.of(STREAMS_A_READ), Instant::now());
                (wanted, roster.next_rested(), roster.wants_lookout())
            };
            if told && wants_lookout {
                lookouts.send_one(self, tools);
            }
            if !wanted.is_empty() {
                let read = self.read(connection, &wanted, pace.of(COUNT), tools).await;
                *pace = if read.is_ok() { pace.faster() } else { pace.slower() };
                read?;
            } else if !doubtful.is_empty() {
                // A few at a time, and nothing else waits for the others.
            } else if self.roster.lock().is_empty() {
                if timeout(IDLE, self.work.notified()).await.is_err() {
                    return Ok(());
                }
            } else if told {
                let until = rested.map_or(check_at, |rested| rested.min(check_at));
                drop(timeout_at(until, self.work.notified()).await);
            } else {
                drop(timeout(POLL_EVERY, self.work.notified()).await);
                self.roster.lock().all_changed();
            }
            if tools.making.losses.load(Ordering::Relaxed) != losses {
                let reason = "another connection was lost".to_owned();
                return Err(StoreError::Unreachable { reason });
            }
            // Each round is gone through before the next.
            if Instant::now() >= check_at && doubtful.is_empty() {
                // Job streams may come to any run.
                doubtful = self.roster.lock().take_doubtful(jobs);
                check_at = Instant::now() + check_every;
                if doubtful.is_empty() {
                    // A connection that is dead says nothing, like one whose runs are quiet.
                    checked(send(connection, &redis::cmd("PING"), tools.making.timeout).await?)?;
                }
            }
            let few = doubtful.split_off(doubtful.len().saturating_sub(STREAMS_A_CHECK));
            self.check_heads(connection, few, tools).await?;
        }
    }

    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        wanted: &[Wanted],
        count: usize,
        tools: &Tools,
    ) -> Result<(), StoreError> {
        if let Some(moved) = &tools.moved {
            return self.read_singly(connection, wanted, count, moved, tools.making.timeout).await;
        }
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count).arg("STREAMS");
        for Wanted { key, .. } in wanted {
            command.arg(&key.name);
        }
        for Wanted { after, .. } in wanted {
            command.arg(after.to_string());
        }
        match checked(send(connection, &command, tools.making.timeout).await?) {
            Ok(reply) => self.hand_over(wanted, count, reply::streams(reply)?),
            Err(StoreError::BrokenRun { .. }) => self.find_broken(connection, wanted, tools).await,
            Err(e) => Err(e),
        }
    }

    /// The same in a cluster, where one command may only name keys that are kept together. A stream that is on another
    /// server by now is left out until its followers have gone there.
    async fn read_singly(
        &self,
        connection: &mut MultiplexedConnection,
        wanted: &[Wanted],
        count: usize,
        moved: &Notify,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let mut reads = Pipeline::with_capacity(wanted.len());
        for Wanted { key, after, .. } in wanted {
            reads.cmd("XREAD").arg("COUNT").arg(count).arg("STREAMS");
            reads.arg(&key.name).arg(after.to_string());
        }
        let replies = send_all(connection, &reads, limit).await?;
        let mut streams = Vec::with_capacity(wanted.len());
        for (Wanted { key, .. }, reply) in wanted.iter().zip(replies) {
            match checked(reply) {
                Ok(reply) => streams.extend(reply::streams(reply)?),
                Err(error) if is_not_here(&error) => {
                    self.roster.lock().is_broken(&key.name);
                    moved.notify_one();
                }
                Err(StoreError::BrokenRun { .. }) => self.roster.lock().is_broken(&key.name),
                Err(error) => return Err(error),
            }
        }
        self.hand_over(wanted, count, streams)
    }

    fn hand_over(
        &self,
        wanted: &[Wanted],
        count: usize,
        streams: Vec<(Value, Value)>,
    ) -> Result<(), StoreError> {
        let mut silent: Vec<&Wanted> = wanted.iter().collect();
        for (name, entries) in streams {
            let name = reply::text(&name)?;
            let Some(Wanted { run, key, after }) = wanted.iter().find(|w| w.key.name == name)
            else {
                continue;
            };
            silent.retain(|w| w.key.name != name);
            let full = matches!(&entries, Value::Array(entries) if entries.len() >= count);
            // Decoded without the lock: it is the costly part.
            let events = reply::events(run, key, entries)?;
            let mut roster = self.roster.lock();
            if roster.read(name, *after, events, full) && !full && wanted.len() <= FEW {
                roster.found(name, Instant::now());
            }
        }
        let mut roster = self.roster.lock();
        silent.iter().for_each(|w| roster.read_nothing(&w.key.name));
        Ok(())
    }

    /// Leaves out those of the keys that hold no stream, until the next check, and has the others read.
    async fn find_broken(
        &self,
        connection: &mut MultiplexedConnection,
        wanted: &[Wanted],
        tools: &Tools,
    ) -> Result<(), StoreError> {
        let mut types = redis::pipe();
        for Wanted { key, .. } in wanted {
            types.cmd("TYPE").arg(&key.name);
        }
        let replies = send_all(connection, &types, tools.making.timeout).await?;
        let mut roster = self.roster.lock();
        for (Wanted { key, .. }, kind) in wanted.iter().zip(replies) {
            match reply::text(&kind) {
                Ok("stream" | "none") => roster.stream_changed(key.name.as_bytes()),
                _ => roster.is_broken(&key.name),
            }
        }
        Ok(())
    }
}

/// Ends the tails of a reader that ends, so that their followers look for another.
struct End(Arc<Reader>);

impl Drop for End {
    fn drop(&mut self) {
        *self.0.roster.lock() = Roster::default();
    }
}
