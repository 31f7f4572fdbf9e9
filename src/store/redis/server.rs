//! One Redis server and the runs that live on it: one stream a run, as CONTRACT section 4 lays it out, shared with
//! any program that writes or reads those streams.
//!
//! Appends, reads and the readers of followed runs have connections of their own on each thread that uses them,
//! so that a large read holds up no write, and no thread waits for another to send or to hear. What is asked
//! seldom goes through two connections on a thread of the store's own, which a busy actor does not delay.

use super::append::{self, RUNS_A_CALL};
use super::dial::Dialer;
use super::keys::{PROBE, RUNS, StreamKey};
use super::link::{Link, Making, Use, checked, odd};
use super::links::Links;
use super::listing::{self, Listing};
use super::pace::Pace;
use super::readers::{Readers, Tools};
use super::streams::Streams;
use super::{Ground, discovery, reply};
use crate::config::RedisUrl;
use crate::event::{EventId, RunId, RunStatus, Sequence};
use crate::store::appended::Appended;
use crate::store::{
    Answer, LogStore, Order, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreStatus, Tail, TailItem, as_ms, now_ms,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::task::AbortHandle;

/// A server. Clones share it.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    place: RedisUrl,
    pub(super) writes: Link,
    pub(super) reads: Link,
    appends: Links,
    ranges: Links,
    range_pace: Mutex<Pace>,
    pub(super) streams: Arc<Streams>,
    readers: Readers,
    /// Where on the list of runs the next sweep begins.
    sweep_at: AtomicUsize,
    /// What keeps the links up.
    dialling: [AbortHandle; 2],
    pub(super) ground: Ground,
}

/// Entries read at first, before their size is known.
const FIRST_READ: usize = 16;
/// About the most bytes asked for at a time.
const STEP_BYTES: usize = 1 << 20;
/// How long to wait before a question is asked again that the server did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// For how long other hubs can ask whether a run was deleted; they notice within seconds that it is gone.
const DELETION_SAID: Duration = Duration::from_secs(60);

impl Server {
    /// A server that is connected to in the background, and again whenever that has to be.
    pub(super) fn start(place: RedisUrl, dialer: Dialer, ground: Ground) -> Self {
        let making = Making {
            dialer,
            scripts: Arc::clone(&ground.scripts),
            timeout: ground.config.command_timeout,
            losses: Arc::default(),
        };
        let runtime = ground.background.handle();
        let link = |purpose| Link::start(purpose, making.clone(), runtime);
        let ((writes, keeps_writes), (reads, keeps_reads)) = (link(Use::Writes), link(Use::Reads));
        let links = |purpose| Links::new(purpose, making.clone(), runtime.clone());
        let (appends, ranges) = (links(Use::Writes), links(Use::Reads));
        let streams = Streams::new(ground.keys, ground.config.job_streams, reads.clone());
        let streams = Arc::new(streams);
        let tools = Tools {
            making: making.clone(),
            streams: Arc::clone(&streams),
            lookouts: Arc::clone(&ground.lookouts),
            moved: ground.moved.clone(),
        };
        let readers = Readers::new(tools, ground.most_readers, runtime.clone());
        let inner = Inner {
            place,
            writes,
            reads,
            appends,
            ranges,
            range_pace: Mutex::default(),
            streams,
            readers,
            sweep_at: AtomicUsize::new(0),
            dialling: [keeps_writes, keeps_reads].map(|task| task.abort_handle()),
            ground,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks from now on for runs that only other programs have written to.
    pub(super) fn discover(&self) {
        let inner = Arc::downgrade(&self.inner);
        let walk = discovery::walk::<Self, _>(move || inner.upgrade().map(|inner| Self { inner }));
        self.inner.ground.background.handle().spawn(walk);
    }

    /// Where it is, without secrets.
    pub(super) fn place(&self) -> String {
        self.inner.place.to_string()
    }

    /// The beginning of a call of one of the scripts that work on a run. The further keys come behind those
    /// that all of them have.
    fn run_call(&self, hash: &str, run: &RunId, stream: &StreamKey, further: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(hash).arg(3 + further.len());
        let list = self.inner.ground.list(&stream.name);
        call.arg(&stream.name).arg(self.inner.ground.keys.meta(run)).arg(list);
        for key in further {
            call.arg(key);
        }
        call.arg(run.as_str());
        call
    }

    async fn append_all(
        &self,
        appends: &[RunAppend],
    ) -> Vec<Result<Vec<PublishOutcome>, StoreError>> {
        let ground = &self.inner.ground;
        let (keys, script) = (ground.keys, &ground.scripts.append);
        // Keys of several runs may not be in one call where another server may have some of them.
        let at_once = if ground.in_cluster() { 1 } else { RUNS_A_CALL };
        let streams: Vec<StreamKey> = appends.iter().map(|a| keys.stream(&a.run)).collect();
        let calls = appends.chunks(at_once).zip(streams.chunks(at_once));
        let calls = calls
            .map(|(appends, streams)| {
                let list = ground.list(streams.first().map_or(RUNS, |stream| &stream.name));
                append::call(&script.hash, list, keys, &ground.rules, appends, streams)
            })
            .collect();
        let names = streams.into_iter().map(|stream| stream.name).collect();
        let appending = self.inner.readers.appending(names);
        let replies = match self.inner.appends.here().scripts(script, calls).await {
            Ok(replies) => replies,
            Err(e) => return vec![Err(e); appends.len()],
        };
        let mut results: Vec<Result<Appended, StoreError>> = Vec::with_capacity(appends.len());
        for (appends, reply) in appends.chunks(at_once).zip(replies) {
            match reply.and_then(|reply| append::lines(&reply, appends)) {
                Ok(lines) => results.extend(lines),
                Err(e) => results.resize(results.len() + appends.len(), Err(e)),
            }
        }
        let results = appends.iter().zip(results).enumerate();
        results
            .map(|(index, (append, result))| {
                let appended = result?;
                appending.stored(index, appended.previous, || appended.events(append));
                Ok(appended.outcomes)
            })
            .collect()
    }

    async fn read(&self, run: &RunId, request: RangeRequest) -> Result<Page, StoreError> {
        let streams = &self.inner.streams;
        let stream = streams.of(run).await?;
        let page = self.read_from(&stream, run, request).await?;
        if page.events.is_empty()
            && let Some(other) = streams.instead_of(&stream, run).await?
        {
            return self.read_from(&other, run, request).await;
        }
        Ok(page)
    }

    /// Reads in steps, so that a page of large events does not come whole into memory.
    async fn read_from(
        &self,
        stream: &StreamKey,
        run: &RunId,
        request: RangeRequest,
    ) -> Result<Page, StoreError> {
        let (mut start, mut end) = (request.start, request.end);
        let (mut page, mut bytes) = (Page::default(), 0_usize);
        while start <= end {
            // One more than asked for tells whether there is more.
            let wanted = request.limit.saturating_add(1) - page.events.len();
            let fits = match page.events.len() {
                0 => wanted.min(FIRST_READ),
                // At most as many as will do if the next ones are like the last ones.
                read => {
                    let one = (bytes / read).max(1);
                    let room = request.enough_bytes.saturating_sub(bytes).min(STEP_BYTES);
                    wanted.min((room / one).max(1))
                }
            };
            let count = self.inner.range_pace.lock().of(fits);
            let mut command = match request.order {
                Order::Ascending => redis::cmd("XRANGE"),
                Order::Descending => redis::cmd("XREVRANGE"),
            };
            let (from, to) = match request.order {
                Order::Ascending => (start, end),
                Order::Descending => (end, start),
            };
            command.arg(&stream.name).arg(from.to_string()).arg(to.to_string());
            command.arg("COUNT").arg(count);
            let reply = match self.inner.ranges.here().command(command).await {
                Ok(reply) => reply,
                Err(StoreError::NoAnswer { .. }) if count > 1 => {
                    let mut pace = self.inner.range_pace.lock();
                    *pace = pace.slower();
                    continue;
                }
                Err(e) => return Err(e),
            };
            let events = reply::events(run, stream, reply)?;
            let all = events.len() < count;
            if !all && count < fits {
                // Only where less was asked for than was there has it been seen to be in time.
                let mut pace = self.inner.range_pace.lock();
                *pace = pace.faster();
            }
            bytes += events.iter().map(|e| e.event.data.len() + 256).sum::<usize>();
            let Some(last) = events.last().map(|e| e.id) else { break };
            page.events.extend(events);
            if page.events.len() > request.limit {
                page.events.truncate(request.limit);
                page.more = true;
                break;
            }
            if all {
                break;
            }
            if bytes >= request.enough_bytes {
                page.more = true;
                break;
            }
            match request.order {
                Order::Ascending if last < EventId::MAX => start = last.next(),
                Order::Descending if last > EventId::START => end = last.before(),
                _ => break,
            }
        }
        Ok(page)
    }

    async fn state(&self, run: &RunId) -> Result<RunState, StoreError> {
        let streams = &self.inner.streams;
        let stream = streams.of(run).await?;
        let state = self.state_by(&stream, run).await?;
        let has_events = matches!(&state, RunState::Known(info) if info.first_id.is_some());
        if !has_events && let Some(other) = streams.instead_of(&stream, run).await? {
            return self.state_by(&other, run).await;
        }
        Ok(state)
    }

    async fn state_by(&self, stream: &StreamKey, run: &RunId) -> Result<RunState, StoreError> {
        let script = &self.inner.ground.scripts.run;
        let call = self.run_call(&script.hash, run, stream, &[]);
        reply::state(self.inner.reads.script(script, call).await?)
    }

    /// Where a tail begins that is to go on behind `after`, where job streams are served: the run's own stream may
    /// have begun since that position was read, in a job's. Waits until the server answers.
    async fn place_in_jobs(&self, run: &RunId, after: EventId) -> (StreamKey, EventId) {
        loop {
            match self.oldest_now(run).await {
                // A job's position, then; in a stream that was trimmed meanwhile the first number is higher.
                Ok((stream, Some((oldest, sequence))))
                    if !stream.is_jobs
                        && after < oldest
                        && sequence.is_none_or(|n| n == Sequence::FIRST) =>
                {
                    return (stream, EventId::START);
                }
                Ok((stream, _)) => return (stream, after),
                // The reader looks now and then whether it has been mended.
                Err(StoreError::BrokenRun { .. }) => {
                    return (self.inner.ground.keys.stream(run), after);
                }
                Err(e) => log::debug!("could not find the stream of run {run}: {e}"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// The stream that holds a run's events now, and its oldest event's place.
    async fn oldest_now(
        &self,
        run: &RunId,
    ) -> Result<(StreamKey, Option<(EventId, Option<Sequence>)>), StoreError> {
        let stream = self.inner.streams.of(run).await?;
        let page = self.read_from(&stream, run, RangeRequest::oldest()).await?;
        Ok((stream, page.events.first().map(|event| (event.id, event.sequence))))
    }

    /// Whether anything is kept of a run.
    pub(super) async fn keeps(&self, run: &RunId) -> Result<bool, StoreError> {
        let keys = self.inner.ground.keys;
        let mut command = redis::cmd("EXISTS");
        command.arg(keys.stream(run).name).arg(keys.meta(run));
        Ok(self.inner.reads.command(command).await? != Value::Int(0))
    }

    pub(super) async fn write_and_read_back(&self, key: &str) -> Result<(), StoreError> {
        let value = now_ms().to_string();
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("SET").arg(key).arg(&value).arg("PX").arg(60_000);
        commands.cmd("GET").arg(key);
        let replies = self.inner.writes.pipeline(&commands).await?;
        let [written, read] = replies.try_into().map_err(|_| odd("two replies"))?;
        checked(written)?;
        // Two hubs may probe at once; that the key is there is enough.
        reply::bytes(&checked(read)?)?;
        // Readers have a connection of their own, which may be dead while this one is well.
        self.inner.reads.revive().await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dialling.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("place", &self.inner.place).finish_non_exhaustive()
    }
}

impl Listing for Server {
    fn servers(&self) -> Vec<Server> {
        vec![self.clone()]
    }

    async fn ask_list(&self, question: Cmd) -> Result<Value, StoreError> {
        self.inner.reads.command(question).await
    }

    async fn states(&self, runs: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let script = &self.inner.ground.scripts.run;
        let streams = self.inner.streams.look_for(runs).await?;
        let calls = runs.iter().zip(&streams);
        let calls = calls.map(|(run, stream)| self.run_call(&script.hash, run, stream, &[]));
        let calls = calls.collect();
        let replies = self.inner.reads.scripts(script, calls).await?;
        // A run that is broken is left out of lists, not the others with it.
        replies
            .into_iter()
            .map(|r| match r.and_then(reply::state) {
                Err(StoreError::BrokenRun { .. }) => Ok(RunState::Unknown),
                other => other,
            })
            .collect()
    }

    async fn forget(&self, runs: &[RunId]) -> Result<usize, StoreError> {
        let streams = self.inner.streams.look_for(runs).await?;
        let script = &self.inner.ground.scripts.forget;
        let calls = runs.iter().zip(&streams);
        let calls = calls.map(|(run, stream)| self.run_call(&script.hash, run, stream, &[]));
        let replies = self.inner.writes.scripts(script, calls.collect()).await?;
        Ok(replies.iter().filter(|reply| **reply == Ok(Value::Int(1))).count())
    }
}

impl LogStore for Server {
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>> {
        Box::pin(self.append_all(appends))
    }

    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        Box::pin(self.read(run, request))
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Answer<'a, RunState> {
        Box::pin(self.state(run))
    }

    fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage> {
        Box::pin(listing::page(self, after, limit, status))
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        Box::pin(async move {
            let script = &self.inner.ground.scripts.expire;
            let stream = self.inner.streams.look_for(slice::from_ref(run)).await?;
            let stream = stream.first().ok_or_else(|| odd("expected a stream"))?;
            let mut call = self.run_call(&script.hash, run, stream, &[]);
            call.arg(as_ms(after));
            reply::state(self.inner.writes.script(script, call).await?)
        })
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        Box::pin(async move {
            let (script, keys) = (&self.inner.ground.scripts.delete, self.inner.ground.keys);
            let mut further = vec![keys.index(run)];
            further.extend(self.inner.streams.jobs_of(run).await?);
            let mut call = self.run_call(&script.hash, run, &keys.stream(run), &further);
            call.arg(keys.deleted(run)).arg(as_ms(DELETION_SAID));
            Ok(self.inner.writes.script(script, call).await? != Value::Int(0))
        })
    }

    fn deleted_at<'a>(&'a self, run: &'a RunId) -> Answer<'a, Option<u64>> {
        Box::pin(async move {
            let mut command = redis::cmd("GET");
            command.arg(self.inner.ground.keys.deleted(run));
            match self.inner.reads.command(command).await {
                // Something else may be kept under that name.
                Ok(when) => Ok(reply::text(&when).ok().and_then(|when| when.parse().ok())),
                Err(StoreError::BrokenRun { .. }) => Ok(None),
                // This hub may not look.
                Err(StoreError::Refused { reason }) if reason.starts_with("NOPERM") => Ok(None),
                Err(e) => Err(e),
            }
        })
    }

    fn tail(&self, run: &RunId, after: EventId) -> Tail {
        let (inner, run) = (&self.inner, run.clone());
        if !inner.streams.serves_jobs() {
            let stream = inner.ground.keys.stream(&run);
            return inner.readers.tail(run, stream, after);
        }
        let store = self.clone();
        let tail = async move {
            let (stream, position) = store.place_in_jobs(&run, after).await;
            let reset = (position != after).then_some(TailItem::Reset);
            let items = store.inner.readers.tail(run, stream, position);
            futures::stream::iter(reset).chain(items)
        };
        Box::pin(futures::stream::once(tail).flatten())
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.write_and_read_back(PROBE))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(listing::sweep(self, &self.inner.sweep_at))
    }

    fn status(&self) -> StoreStatus {
        let trouble = self.inner.writes.trouble().or_else(|| self.inner.reads.trouble());
        StoreStatus { kind: "redis", place: self.place(), trouble }
    }
}
