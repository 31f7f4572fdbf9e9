//! The Redis store: one stream a run, as CONTRACT section 4 lays it out, shared with any program that
//! writes or reads those streams. Job streams of other programs may be read as well (`streams.rs`), and runs
//! that only others have written to be looked for (`discovery.rs`).
//!
//! Appends, reads and the readers of followed runs have connections of their own on each thread that uses them,
//! so that a large read holds up no write, and no thread waits for another to send or to hear. What is asked
//! seldom goes through two connections on a thread of the store's own, which a busy actor does not delay.

mod append;
mod dial;
mod discovery;
mod keys;
mod link;
mod links;
mod lookouts;
mod per_thread;
mod reader;
mod reply;
mod rests;
mod roster;
mod scripts;
mod sentinels;
mod streams;

pub use dial::InvalidUrl;

use super::appended::Appended;
use super::{
    Answer, LogStore, Order, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreRules, StoreStatus, Tail, TailItem, as_ms, now_ms,
};
use crate::config::{RedisConfig, RedisUrl};
use crate::event::{EventId, RunId, RunStatus, Sequence};
use append::RUNS_A_CALL;
use dial::Dialer;
use futures::StreamExt;
use futures::future::BoxFuture;
use keys::{Keys, RUNS, StreamKey};
use link::{Link, Making, Use, checked, odd};
use links::Links;
use reader::Readers;
use redis::{Cmd, Pipeline};
use scripts::Scripts;
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use streams::Streams;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// A store on a Redis server. Clones share it.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    rules: StoreRules,
    keys: Keys,
    scripts: Arc<Scripts>,
    place: RedisUrl,
    writes: Link,
    reads: Link,
    appends: Links,
    ranges: Links,
    streams: Arc<Streams>,
    readers: Readers,
    /// Where on the list of runs the next sweep begins.
    sweep_at: AtomicUsize,
    runtime: Option<Runtime>,
}

/// The store cannot be set up at all; a server that is away is no such error.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// No thread could be started.
    #[error("cannot start the thread of the Redis connections: {0}")]
    Thread(#[from] std::io::Error),
}

/// Connections kept for readers: one for each thread that may follow runs, and one for all others.
const READERS: usize = 9;
/// Entries read at first, before their size is known.
const FIRST_READ: usize = 16;
/// How long to wait before a question is asked again that the server did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// For how long other hubs can ask whether a run was deleted; they notice within seconds that it is gone.
const DELETION_SAID: Duration = Duration::from_secs(60);
/// The most runs looked at for one page of the list.
const LIST_SCAN: usize = 200;
/// The most entries of the list one sweep looks at.
const SWEEP_RUNS: usize = 500;

impl RedisStore {
    /// A store that connects in the background, and again whenever it has to.
    pub fn start(
        url: &RedisUrl,
        rules: StoreRules,
        config: &RedisConfig,
    ) -> Result<Self, SetupError> {
        let dialer = Dialer::new(url, config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("runhub-redis")
            .enable_all()
            .build()?;
        let (scripts, keys) = (Arc::new(Scripts::new(&rules)), Keys(config.key_style));
        let making = Making {
            dialer,
            scripts: Arc::clone(&scripts),
            timeout: config.command_timeout,
            losses: Arc::default(),
        };
        // These end with the runtime.
        let link = |purpose| Link::start(purpose, making.clone(), runtime.handle()).0;
        let (writes, reads) = (link(Use::Writes), link(Use::Reads));
        let links = |purpose| Links::new(purpose, making.clone(), runtime.handle().clone());
        let (appends, ranges) = (links(Use::Writes), links(Use::Reads));
        let most = usize::try_from(config.max_readers).unwrap_or(usize::MAX).max(1);
        let streams = Arc::new(Streams::new(keys, config.job_streams, reads.clone()));
        let lookouts = most.saturating_sub(READERS).min(Semaphore::MAX_PERMITS);
        let lookouts = Arc::new(Semaphore::new(lookouts));
        let tools =
            reader::Tools { making: making.clone(), streams: Arc::clone(&streams), lookouts };
        let readers = Readers::new(tools, most, runtime.handle().clone());
        let inner = Inner {
            rules,
            keys,
            scripts,
            place: url.clone(),
            writes,
            reads,
            appends,
            ranges,
            streams,
            readers,
            sweep_at: AtomicUsize::new(0),
            runtime: Some(runtime),
        };
        let inner = Arc::new(inner);
        if let Some(runtime) = inner.runtime.as_ref().filter(|_| config.discover) {
            runtime.spawn(discovery::walk(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// The beginning of a call of one of the scripts that work on a run. The further keys come behind those
    /// that all of them have.
    fn run_call(&self, hash: &str, run: &RunId, stream: &StreamKey, further: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(hash).arg(3 + further.len());
        call.arg(&stream.name).arg(self.inner.keys.meta(run)).arg(RUNS);
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
        let (keys, rules, script) =
            (self.inner.keys, &self.inner.rules, &self.inner.scripts.append);
        let streams: Vec<StreamKey> = appends.iter().map(|a| keys.stream(&a.run)).collect();
        let calls = appends.chunks(RUNS_A_CALL).zip(streams.chunks(RUNS_A_CALL));
        let calls = calls
            .map(|(appends, streams)| append::call(&script.hash, keys, rules, appends, streams))
            .collect();
        let names = streams.into_iter().map(|stream| stream.name).collect();
        let appending = self.inner.readers.appending(names);
        let replies = match self.inner.appends.here().scripts(script, calls).await {
            Ok(replies) => replies,
            Err(e) => return vec![Err(e); appends.len()],
        };
        let mut results: Vec<Result<Appended, StoreError>> = Vec::with_capacity(appends.len());
        for (appends, reply) in appends.chunks(RUNS_A_CALL).zip(replies) {
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
            let count = match page.events.len() {
                0 => wanted.min(FIRST_READ),
                // At most as many as will do if the next ones are like the last ones.
                read => {
                    let one = (bytes / read).max(1);
                    wanted.min((request.enough_bytes.saturating_sub(bytes) / one).max(1))
                }
            };
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
            let reply = self.inner.ranges.here().command(command).await?;
            let events = reply::events(run, stream, reply)?;
            let all = events.len() < count;
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
        let script = &self.inner.scripts.run;
        let call = self.run_call(&script.hash, run, stream, &[]);
        reply::state(self.inner.reads.script(script, call).await?)
    }

    async fn states(&self, runs: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let script = &self.inner.scripts.run;
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
                Err(StoreError::BrokenRun { .. }) => return (self.inner.keys.stream(run), after),
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

    /// Members of the list of runs from a place on, newest activity first, with their scores.
    async fn listed(&self, offset: usize, newest: u64) -> Result<Vec<(u64, RunId)>, StoreError> {
        let mut command = redis::cmd("ZREVRANGEBYSCORE");
        command
            .arg(RUNS)
            .arg(newest)
            .arg("-inf")
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(offset)
            .arg(LIST_SCAN);
        let members = reply::items(self.inner.reads.command(command).await?)?;
        let pairs = members.chunks_exact(2).map(|pair| {
            let score = reply::score(&pair[1])?;
            // Names that are no run ids are not ours.
            Ok(reply::text(&pair[0])
                .ok()
                .and_then(|text| RunId::parse(text).ok())
                .map(|run| (score, run)))
        });
        pairs.filter_map(Result::transpose).collect()
    }

    async fn list(
        &self,
        after: Option<&RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Result<RunsPage, StoreError> {
        let newest = after.map_or(u64::MAX, |a| a.ms);
        let (mut page, mut offset) = (RunsPage::default(), 0);
        loop {
            let listed = self.listed(offset, newest).await?;
            offset += listed.len();
            let last = listed.len() < LIST_SCAN;
            let behind =
                |(ms, run): &(u64, RunId)| after.is_none_or(|a| (*ms, run) < (a.ms, &a.run));
            let listed: Vec<_> = listed.into_iter().filter(behind).collect();
            let names: Vec<RunId> = listed.iter().map(|(_, run)| run.clone()).collect();
            let states = if names.is_empty() { Vec::new() } else { self.states(&names).await? };
            for ((ms, run), state) in listed.into_iter().zip(states) {
                let RunState::Known(info) = state else { continue };
                if status.is_some_and(|s| s != info.status) {
                    continue;
                }
                page.runs.push((run.clone(), info));
                if page.runs.len() == limit {
                    page.next = Some(RunsCursor { ms, run });
                    return Ok(page);
                }
            }
            if last {
                return Ok(page);
            }
        }
    }

    /// Takes runs that are forgotten off the list. Each call looks at the next few, round and round.
    async fn sweep_list(&self) -> Result<(), StoreError> {
        let at = self.inner.sweep_at.load(Ordering::Relaxed);
        let mut command = redis::cmd("ZRANGE");
        command.arg(RUNS).arg(at).arg(at + SWEEP_RUNS - 1);
        let members = reply::items(self.inner.reads.command(command).await?)?;
        let runs = members.iter().filter_map(|m| RunId::parse(reply::text(m).ok()?).ok());
        let runs: Vec<RunId> = runs.collect();
        let streams = self.inner.streams.look_for(&runs).await?;
        let calls = runs.iter().zip(&streams).map(|(run, stream)| self.forget_call(run, stream));
        let calls: Vec<Cmd> = calls.collect();
        let replies = self.inner.writes.scripts(&self.inner.scripts.forget, calls).await?;
        let removed = replies.iter().filter(|reply| **reply == Ok(redis::Value::Int(1))).count();
        let next = if members.len() < SWEEP_RUNS { 0 } else { at + SWEEP_RUNS - removed };
        self.inner.sweep_at.store(next, Ordering::Relaxed);
        Ok(())
    }

    fn forget_call(&self, run: &RunId, stream: &StreamKey) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.inner.scripts.forget.hash).arg(3);
        call.arg(&stream.name).arg(self.inner.keys.meta(run)).arg(RUNS).arg(run.as_str());
        call
    }

    async fn write_and_read_back(&self) -> Result<(), StoreError> {
        let (key, value) = ("runhub:probe", now_ms().to_string());
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
        // A runtime must not be dropped on an async thread the usual way.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("place", &self.inner.place).finish_non_exhaustive()
    }
}

impl LogStore for RedisStore {
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
        Box::pin(self.list(after, limit, status))
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        Box::pin(async move {
            let script = &self.inner.scripts.expire;
            let stream = self.inner.streams.look_for(slice::from_ref(run)).await?;
            let stream = stream.first().ok_or_else(|| odd("expected a stream"))?;
            let mut call = self.run_call(&script.hash, run, stream, &[]);
            call.arg(as_ms(after));
            reply::state(self.inner.writes.script(script, call).await?)
        })
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        Box::pin(async move {
            let (script, keys) = (&self.inner.scripts.delete, self.inner.keys);
            let mut further = vec![keys.index(run)];
            further.extend(self.inner.streams.jobs_of(run).await?);
            let mut call = self.run_call(&script.hash, run, &keys.stream(run), &further);
            call.arg(keys.deleted(run)).arg(as_ms(DELETION_SAID));
            Ok(self.inner.writes.script(script, call).await? != redis::Value::Int(0))
        })
    }

    fn deleted_at<'a>(&'a self, run: &'a RunId) -> Answer<'a, Option<u64>> {
        Box::pin(async move {
            let mut command = redis::cmd("GET");
            command.arg(self.inner.keys.deleted(run));
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
            let stream = inner.keys.stream(&run);
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
        Box::pin(self.write_and_read_back())
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(self.sweep_list())
    }

    fn status(&self) -> StoreStatus {
        let trouble = self.inner.writes.trouble().or_else(|| self.inner.reads.trouble());
        StoreStatus { kind: "redis", place: self.inner.place.to_string(), trouble }
    }
}
