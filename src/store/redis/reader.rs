//! The readers that wait for new events: each is one connection with one blocking `XREAD` over the
//! streams of many runs, so that ten thousand followed runs are not ten thousand connections.
//!
//! A run's position is kept here and moves only with what has been handed over. A run whose follower is
//! behind is left out of the read until there is room again; nothing is lost, it is read later. A blocked
//! `XREAD` never notices that a stream was deleted or rolled back, so every reader asks for the streams'
//! heads as well, every [`CHECK_EVERY`]. Where job streams are served it then also looks whether a run has
//! another stream by now.

use super::dial::Dialer;
use super::keys::StreamKey;
use super::link::{Link, checked, jittered};
use super::reply;
use super::scripts::Scripts;
use super::streams::Streams;
use crate::event::{EventId, RunId};
use crate::store::{StoreError, Tail, TailItem};
use futures::stream;
use parking_lot::Mutex;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Runs on one connection before another one is opened.
const RUNS_A_READER: usize = 64;
/// How long one `XREAD` waits.
const BLOCK: Duration = Duration::from_millis(1000);
/// How much longer than that its reply may take.
const GRACE: Duration = Duration::from_millis(1200);
/// How often the streams' heads are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The same where job streams are served: one that begins is to be heard of within two seconds, and a read
/// under way may take one.
const CHECK_JOBS_EVERY: Duration = Duration::from_secs(1);
/// Events read of one run at a time.
const COUNT: usize = 128;
/// Batches that may wait for a follower.
const ROOM: usize = 8;
/// How often a blocked read is asked to end until it does.
const NUDGE_EVERY: Duration = Duration::from_millis(2);
/// How long a reader without runs keeps its connection.
const IDLE: Duration = Duration::from_secs(5);

/// What readers work with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) dialer: Dialer,
    pub(super) scripts: Arc<Scripts>,
    /// A connection for what cannot be said on one that is blocked.
    pub(super) side: Link,
    pub(super) streams: Arc<Streams>,
    pub(super) runtime: Handle,
}

impl Tools {
    fn check_every(&self) -> Duration {
        if self.streams.serves_jobs() { CHECK_JOBS_EVERY } else { CHECK_EVERY }
    }
}

/// All readers of a store.
pub(super) struct Readers {
    tools: Tools,
    most: usize,
    readers: Mutex<Vec<Arc<Reader>>>,
}

/// What a reader and its followers share.
struct Reader {
    roster: Mutex<Roster>,
    /// Something has changed while the reader waited for work.
    work: Notify,
    /// The blocked connection's client id; 0 for none.
    client: AtomicU64,
    /// Whether a task is busy ending the blocked read.
    nudging: AtomicBool,
}

#[derive(Default)]
struct Roster {
    next: u64,
    /// Rises with each change that a blocked read does not know of.
    wanted: u64,
    /// What the read under way, or the last one, knows of.
    known: u64,
    entries: HashMap<u64, Entry>,
}

struct Entry {
    run: RunId,
    key: StreamKey,
    position: EventId,
    sink: mpsc::Sender<TailItem>,
    /// Left out of the read because its follower has no room.
    waits_for_room: bool,
    /// Left out because something else than a stream is kept under its key.
    broken: bool,
}

impl Readers {
    pub(super) fn new(tools: Tools, most: usize) -> Self {
        Self { tools, most, readers: Mutex::new(Vec::new()) }
    }

    /// Follows a run. Dropping the tail ends it.
    pub(super) fn tail(&self, run: RunId, key: StreamKey, after: EventId) -> Tail {
        let reader = self.choose(&run);
        let (sink, inbox) = mpsc::channel(ROOM);
        let entry = Entry { run, key, position: after, sink, waits_for_room: false, broken: false };
        let number = {
            let mut roster = reader.roster.lock();
            roster.next += 1;
            roster.wanted += 1;
            let number = roster.next;
            roster.entries.insert(number, entry);
            number
        };
        let tools = self.tools.clone();
        reader.nudge(&tools);
        let seat = Seat { reader, tools, number, inbox };
        Box::pin(stream::unfold(seat, |mut seat| async move {
            let item = seat.inbox.recv().await?;
            seat.tell_of_room();
            Some((item, seat))
        }))
    }

    /// The reader with the fewest runs that does not read this run yet, or a new one.
    fn choose(&self, run: &RunId) -> Arc<Reader> {
        let mut readers = self.readers.lock();
        let load = |reader: &Arc<Reader>| {
            let roster = reader.roster.lock();
            let reads_it = roster.entries.values().any(|e| e.run == *run && !e.sink.is_closed());
            (!reads_it).then_some(roster.entries.len())
        };
        let least =
            readers.iter().filter_map(|r| Some((load(r)?, r))).min_by_key(|(load, _)| *load);
        match least {
            Some((load, reader)) if load < RUNS_A_READER || readers.len() >= self.most => {
                Arc::clone(reader)
            }
            _ => {
                let reader = Arc::new(Reader {
                    roster: Mutex::default(),
                    work: Notify::new(),
                    client: AtomicU64::new(0),
                    nudging: AtomicBool::new(false),
                });
                readers.push(Arc::clone(&reader));
                self.tools.runtime.spawn(Arc::clone(&reader).work(self.tools.clone()));
                reader
            }
        }
    }
}

/// A follower's end of a tail.
struct Seat {
    reader: Arc<Reader>,
    tools: Tools,
    number: u64,
    inbox: mpsc::Receiver<TailItem>,
}

impl Seat {
    /// Lets the reader go on with this run if it was left out for want of room.
    fn tell_of_room(&self) {
        if self.inbox.len() > ROOM / 2 {
            return;
        }
        let mut roster = self.reader.roster.lock();
        let waited = roster
            .entries
            .get_mut(&self.number)
            .is_some_and(|e| std::mem::take(&mut e.waits_for_room));
        if waited {
            roster.wanted += 1;
            drop(roster);
            self.reader.nudge(&self.tools);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The next read goes without it; one under way is not disturbed for that.
        self.reader.roster.lock().entries.remove(&self.number);
    }
}

impl Reader {
    /// Ends the read under way, so that the next one knows of what has changed.
    fn nudge(self: &Arc<Self>, tools: &Tools) {
        self.work.notify_one();
        if self.nudging.swap(true, Ordering::AcqRel) {
            return;
        }
        let (reader, side) = (Arc::clone(self), tools.side.clone());
        tools.runtime.spawn(async move {
            loop {
                let client = reader.client.load(Ordering::Acquire);
                let behind = {
                    let roster = reader.roster.lock();
                    let behind = roster.known < roster.wanted && client != 0;
                    if !behind {
                        // Under the lock: whoever wants something after this starts a task again.
                        reader.nudging.store(false, Ordering::Release);
                    }
                    behind
                };
                if !behind {
                    return;
                }
                // It may not be blocked yet, or not any more; then this does nothing.
                let mut command = redis::cmd("CLIENT");
                command.arg("UNBLOCK").arg(client);
                drop(side.command(command).await);
                tokio::time::sleep(NUDGE_EVERY).await;
            }
        });
    }

    /// Reads for ever; ends with the runtime.
    async fn work(self: Arc<Self>, tools: Tools) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut pause = Duration::from_millis(50);
        let mut check_at = Instant::now() + tools.check_every();
        loop {
            let read = match self.next_read() {
                Next::Read(read) => read,
                Next::Wait => {
                    drop(tokio::time::timeout(CHECK_EVERY, self.work.notified()).await);
                    for entry in self.roster.lock().entries.values_mut() {
                        entry.broken = false;
                    }
                    continue;
                }
                Next::Idle => {
                    if tokio::time::timeout(IDLE, self.work.notified()).await.is_err() {
                        connection = None;
                        self.client.store(0, Ordering::Release);
                        self.work.notified().await;
                    }
                    continue;
                }
            };
            let open = match connection.take() {
                Some(open) => Ok(open),
                None => self.connect(&tools).await,
            };
            let outcome = match open {
                Ok(open) if self.is_behind() => {
                    // Runs that came while it was being connected are not in this read.
                    connection = Some(open);
                    continue;
                }
                Ok(mut open) => {
                    let outcome = self.read_once(&mut open, &read, &mut check_at, &tools).await;
                    if outcome.is_ok() {
                        connection = Some(open);
                    }
                    outcome
                }
                Err(reason) => Err(StoreError::Unreachable { reason }),
            };
            match outcome {
                Ok(()) => pause = Duration::from_millis(50),
                Err(error) => {
                    // The links report what is wrong with the server; this is one of many readers.
                    log::debug!("a reader lost its connection to Redis: {error}");
                    self.client.store(0, Ordering::Release);
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    async fn connect(&self, tools: &Tools) -> Result<MultiplexedConnection, String> {
        let mut connection = tools.dialer.dial(BLOCK + GRACE).await?;
        let mut command = redis::cmd("CLIENT");
        command.arg("ID");
        let id: u64 =
            command.query_async(&mut connection).await.map_err(|e| super::dial::describe(&e))?;
        self.client.store(id, Ordering::Release);
        Ok(connection)
    }

    /// Whether something has changed since the last read was put together.
    fn is_behind(&self) -> bool {
        let roster = self.roster.lock();
        roster.known < roster.wanted
    }

    /// What to do now.
    fn next_read(&self) -> Next {
        let mut roster = self.roster.lock();
        roster.known = roster.wanted;
        let mut read = Read { command: redis::cmd("XREAD"), runs: HashMap::new() };
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(1000);
        read.command.arg("BLOCK").arg(block).arg("COUNT").arg(COUNT).arg("STREAMS");
        let mut positions = Vec::new();
        roster.entries.retain(|_, entry| !entry.sink.is_closed());
        for (number, entry) in &mut roster.entries {
            // Room for one batch and one notice.
            entry.waits_for_room = entry.sink.capacity() < 2;
            if entry.waits_for_room || entry.broken {
                continue;
            }
            read.command.arg(&entry.key.name);
            positions.push(entry.position.to_string());
            read.runs.insert(entry.key.name.clone().into_bytes(), *number);
        }
        for position in positions {
            read.command.arg(position);
        }
        match (read.runs.is_empty(), roster.entries.is_empty()) {
            (false, _) => Next::Read(read),
            (true, false) => Next::Wait,
            (true, true) => Next::Idle,
        }
    }

    async fn read_once(
        &self,
        connection: &mut MultiplexedConnection,
        read: &Read,
        check_at: &mut Instant,
        tools: &Tools,
    ) -> Result<(), StoreError> {
        // The reply's own time limit runs on the wall; this one is ours and monotonic.
        let sent =
            tokio::time::timeout(BLOCK + GRACE, connection.send_packed_command(&read.command));
        let reply =
            sent.await.map_err(|_| StoreError::NoAnswer { reason: "no reply in time".into() })?;
        match checked(reply.map_err(|e| no_answer(&e))?) {
            Ok(Value::Nil) => {}
            Ok(reply) => self.hand_over(read, reply)?,
            Err(StoreError::BrokenRun { .. }) => self.find_broken(connection).await?,
            Err(e) => return Err(e),
        }
        if Instant::now() >= *check_at {
            *check_at = Instant::now() + tools.check_every();
            self.check_heads(connection, tools).await?;
        }
        Ok(())
    }

    fn hand_over(&self, read: &Read, reply: Value) -> Result<(), StoreError> {
        for stream in reply::items(reply)? {
            let [name, entries] = <[Value; 2]>::try_from(reply::items(stream)?)
                .map_err(|_| super::link::odd("expected a stream"))?;
            let Some(number) = read.runs.get(reply::bytes(&name)?) else { continue };
            let entry =
                self.roster.lock().entries.get(number).map(|e| (e.run.clone(), e.key.clone()));
            let Some((run, key)) = entry else { continue };
            // Decoded without the lock: it is the costly part.
            let events = reply::events(&run, &key, entries)?;
            let Some(last) = events.last().map(|e| e.id) else { continue };
            let mut roster = self.roster.lock();
            if let Some(entry) = roster.entries.get_mut(number)
                && entry.sink.try_send(TailItem::Events(events)).is_ok()
            {
                entry.position = last;
            }
        }
        Ok(())
    }

    /// Says `Reset` to every run whose position lies ahead of its stream.
    async fn check_heads(
        &self,
        connection: &mut MultiplexedConnection,
        tools: &Tools,
    ) -> Result<(), StoreError> {
        let jobs = tools.streams.serves_jobs();
        let followed: Vec<(u64, StreamKey, EventId)> = {
            let mut roster = self.roster.lock();
            for entry in roster.entries.values_mut() {
                entry.broken = false;
            }
            let begun = roster.entries.iter().filter(|(_, e)| jobs || e.position != EventId::START);
            begun.map(|(number, e)| (*number, e.key.clone(), e.position)).collect()
        };
        if followed.is_empty() {
            return Ok(());
        }
        let script = &tools.scripts.heads;
        let call = |verb: &str, body: &str| {
            let mut call = redis::cmd(verb);
            call.arg(body).arg(followed.len());
            for (_, key, _) in &followed {
                call.arg(&key.name);
            }
            call
        };
        let send = async |connection: &mut MultiplexedConnection, call: redis::Cmd| {
            connection.send_packed_command(&call).await.map_err(|e| no_answer(&e))
        };
        let mut reply = send(connection, call("EVALSHA", &script.hash)).await?;
        if matches!(&reply, Value::ServerError(e) if e.code() == "NOSCRIPT") {
            reply = send(connection, call("EVAL", &script.code)).await?;
        }
        let mut unsure = Vec::new();
        for ((number, key, seen), head) in followed.iter().zip(reply::items(checked(reply)?)?) {
            let head = EventId::parse(reply::text(&head)?).ok();
            let mut roster = self.roster.lock();
            let Some(entry) = roster.entries.get_mut(number) else { continue };
            if jobs && (key.is_jobs || head.is_none()) {
                unsure.push((*number, entry.run.clone()));
            }
            if head.unwrap_or(EventId::START) < *seen
                && entry.position == *seen
                && entry.sink.try_send(TailItem::Reset).is_ok()
            {
                entry.position = EventId::START;
            }
        }
        self.change_streams(unsure, &tools.streams).await;
        Ok(())
    }

    /// Follows those of the runs that have another stream by now from the beginning of that one: the
    /// position was one in the stream before.
    async fn change_streams(&self, runs: Vec<(u64, RunId)>, streams: &Streams) {
        let (numbers, runs): (Vec<u64>, Vec<RunId>) = runs.into_iter().unzip();
        if runs.is_empty() {
            return;
        }
        // Looked for on a connection of its own, whose troubles are not this one's.
        let Ok(found) = streams.look_for(&runs).await else { return };
        let mut roster = self.roster.lock();
        for (number, key) in numbers.into_iter().zip(found) {
            let Some(entry) = roster.entries.get_mut(&number) else { continue };
            if entry.key == key {
                continue;
            }
            let begun = entry.position != EventId::START;
            if !begun || entry.sink.try_send(TailItem::Reset).is_ok() {
                entry.position = EventId::START;
                entry.key = key;
            }
        }
    }

    /// Leaves out the keys that hold no stream, until the next check.
    async fn find_broken(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let keys: Vec<(u64, String)> =
            self.roster.lock().entries.iter().map(|(n, e)| (*n, e.key.name.clone())).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut types = redis::pipe();
        for (_, key) in &keys {
            types.cmd("TYPE").arg(key);
        }
        let replies = connection.send_packed_commands(&types, 0, keys.len()).await;
        let replies = replies.map_err(|e| no_answer(&e))?;
        let mut roster = self.roster.lock();
        for ((number, _), kind) in keys.iter().zip(replies) {
            let fits = matches!(reply::text(&kind), Ok("stream" | "none"));
            if let Some(entry) = roster.entries.get_mut(number) {
                entry.broken = !fits;
            }
        }
        Ok(())
    }
}

/// What a reader does next.
enum Next {
    Read(Read),
    /// Every run is broken or has no room.
    Wait,
    /// There is no run.
    Idle,
}

/// One `XREAD`: the command, and whose stream each key is.
struct Read {
    command: redis::Cmd,
    runs: HashMap<Vec<u8>, u64>,
}

/// A call that the driver could not bring to an answer.
fn no_answer(error: &redis::RedisError) -> StoreError {
    StoreError::NoAnswer { reason: super::dial::describe(error) }
}
