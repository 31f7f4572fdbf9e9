//! A Redis Cluster: each run lives whole on one server, which its id's slot names; the list of runs lives on the server
//! that has its key's slot.
//!
//! Each server is a [`Server`] as a single one would be. Here is decided which of them is asked ([`slots`],
//! [`layout`]), and that is found out anew every few seconds, and whenever a server says that it does not have a key
//! ([`survey`]). A run's tail goes where the run goes ([`tail`]). What cannot be one step across servers, a run and
//! its place on the list, is two ([`marks`]).

mod layout;
mod marks;
mod slots;
mod survey;
mod tail;

use super::dial::Dialer;
use super::keys::RUNS;
use super::link::{is_elsewhere, odd};
use super::listing::{self, Listing};
use super::server::Server;
use super::{Ground, InvalidUrl, SetupError, discovery, hosts};
use crate::config::{RedisConfig, RedisUrl};
use crate::event::{EventId, RunId, RunStatus};
use crate::store::{
    Answer, LogStore, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreRules, StoreStatus, Tail,
};
use futures::future::{BoxFuture, join_all};
use layout::Layout;
use marks::Marks;
use parking_lot::Mutex;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, Value};
use slots::{Address, slot_of};
use std::collections::HashMap;
use std::fmt;
use std::slice;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;
use survey::Survey;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// How often it is found out who has which slots, without a reason.
const SURVEY_EVERY: Duration = Duration::from_secs(2);
/// The least time between two surveys.
const BETWEEN_SURVEYS: Duration = Duration::from_millis(50);
/// How often a run that is elsewhere is looked for, by who reads and by who appends, for whom others wait; and how long
/// each time a survey is waited for.
const LOOKS_TO_READ: usize = 10;
const LOOKS_TO_APPEND: usize = 2;
const LOOK: Duration = Duration::from_millis(100);
/// How long appends do not wait any more for a slot that moves.
const RESTLESS: Duration = Duration::from_secs(2);
/// How long the list of runs may take before an append goes on without it.
const LISTING: Duration = Duration::from_millis(200);
/// Between rounds of telling the list who was active, and after one that failed.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);
const AFTER_A_FAILED_ROUND: Duration = Duration::from_millis(500);
/// Runs that the list is told of in one command.
const RUNS_A_COMMAND: usize = 500;

/// A cluster.
pub(super) struct Cluster {
    this: Weak<Self>,
    place: RedisUrl,
    /// Where to ask before any server is known, and when none that is known answers.
    seeds: Vec<ConnectionInfo>,
    /// How to connect to any server, but for its address.
    like: ConnectionInfo,
    ground: Ground,
    layouts: watch::Sender<Arc<Layout>>,
    /// Whether a survey has ended yet, either way.
    surveyed: watch::Sender<bool>,
    /// Why nobody could be asked, if so.
    trouble: Mutex<Option<String>>,
    /// A survey is wanted.
    moved: Arc<Notify>,
    marks: Marks,
    /// Slots that take their time to move, and until when that is expected of them.
    restless: Mutex<HashMap<u16, Instant>>,
    /// The list is to be told something.
    due: Arc<Notify>,
    /// Held while the list is told.
    telling: tokio::sync::Mutex<()>,
    sweep_at: AtomicUsize,
}

/// Opens the cluster that a `redis-cluster://` URL names; `rest` is that without its scheme.
pub(super) fn open(
    url: &RedisUrl,
    rest: &str,
    rules: StoreRules,
    config: &RedisConfig,
) -> Result<Arc<dyn LogStore>, SetupError> {
    let invalid = |reason: &str| InvalidUrl { url: url.clone(), reason: reason.to_owned() };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, list) = rest.rsplit_once('@').unwrap_or(("", rest));
    let seeds = hosts::parse(credentials, list, 6379).filter(|_| !list.contains(['/', '?', '#']));
    let seeds = seeds.unwrap_or_default();
    let Some(like) = seeds.first().cloned() else {
        return Err(invalid("expected redis-cluster://[user:password@]host:port,host:port").into());
    };
    if config.job_streams {
        return Err(invalid(
            "the streams of jobs cannot be served from a cluster; set redis.job_streams = false",
        )
        .into());
    }
    let moved = Arc::new(Notify::new());
    let ground = Ground::new(rules, config, Some(Arc::clone(&moved)))?;
    Ok(Cluster::start(url.clone(), seeds, like, ground, moved))
}

impl Cluster {
    /// A cluster that is looked for in the background. `moved` is what the readers of its servers tell when a stream has
    /// gone elsewhere.
    fn start(
        place: RedisUrl,
        seeds: Vec<ConnectionInfo>,
        like: ConnectionInfo,
        ground: Ground,
        moved: Arc<Notify>,
    ) -> Arc<Self> {
        let cluster = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            place,
            seeds,
            like,
            layouts: watch::Sender::default(),
            surveyed: watch::Sender::new(false),
            trouble: Mutex::default(),
            moved: Arc::clone(&moved),
            marks: Marks::default(),
            restless: Mutex::default(),
            due: Arc::default(),
            telling: tokio::sync::Mutex::default(),
            sweep_at: AtomicUsize::new(0),
            ground,
        });
        let background = cluster.ground.background.handle();
        background.spawn(keep_surveying(Arc::downgrade(&cluster), moved));
        background.spawn(keep_telling(Arc::downgrade(&cluster), Arc::clone(&cluster.due)));
        if cluster.ground.config.discover {
            let weak = Arc::downgrade(&cluster);
            background.spawn(discovery::walk::<Self, _>(move || weak.upgrade()));
        }
        cluster
    }

    /// Finds out who has which slots.
    async fn survey(&self) {
        let layout = self.layout();
        let mut survey = Survey::default();
        let known = layout.servers.iter();
        survey.take(known.map(|((host, _), server)| survey::ask(host, server))).await;
        if survey.result().is_none() {
            let limit = self.ground.config.connect_timeout;
            let asked = self.seeds.iter().map(|seed| survey::ask_at(seed.clone(), limit));
            survey.take(asked).await;
        }
        match survey.result() {
            Some(slots) => {
                if *slots != layout.slots {
                    let new = layout.with(slots.clone(), |address| self.connect(address));
                    log::info!(
                        "the Redis Cluster has {} servers that take writes",
                        new.servers.len()
                    );
                    let list =
                        |layout: &Layout| layout.server_of(RUNS).ok().map(|(at, _)| at.clone());
                    if list(&new) != list(&layout) {
                        // It may not know all that the other one was told.
                        self.marks.forget();
                    }
                    self.layouts.send_replace(Arc::new(new));
                }
                *self.trouble.lock() = None;
            }
            None => {
                let trouble = survey.troubles.join("; ");
                if self.trouble.lock().replace(trouble.clone()).is_none() {
                    log::warn!("cannot ask the Redis Cluster who has which keys: {trouble}");
                }
            }
        }
        self.surveyed.send_replace(true);
    }

    /// A server of the cluster, with the user's name and password that the URL has for all.
    fn connect(&self, (host, port): &Address) -> Server {
        let address = ConnectionAddr::Tcp(host.clone(), *port);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let place = RedisUrl::new(format!("redis://{host}:{port}"));
        let dialer = Dialer::to(self.like.clone().set_addr(address), &self.ground.config);
        Server::start(place, dialer, self.ground.clone())
    }

    fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layouts.borrow())
    }

    /// The same; at the start, when nothing is known yet, behind the first survey, which has time limits of its own.
    async fn layout_after_the_first_survey(&self) -> Arc<Layout> {
        if !*self.surveyed.borrow() {
            drop(self.surveyed.subscribe().wait_for(|surveyed| *surveyed).await);
        }
        self.layout()
    }

    /// What stands for a run where its slot is looked for.
    fn key_of(&self, run: &RunId) -> String {
        self.ground.keys.meta(run)
    }

    /// Has it found out who has which slots, and waits for a moment for what differs from this.
    async fn look_again(&self, seen: &Arc<Layout>) {
        let mut layouts = self.layouts.subscribe();
        self.moved.notify_one();
        let differs = layouts.wait_for(|layout| !Arc::ptr_eq(layout, seen));
        drop(timeout(LOOK, differs).await);
    }

    /// Asks the server that has this key; another one, if it says that it has it no more.
    async fn on_server_of<T, F>(
        &self,
        key: &str,
        most_looks: usize,
        ask: impl Fn(Server) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        let mut looks = 0;
        loop {
            let layout = self.layout_after_the_first_survey().await;
            let answer = match layout.server_of(key) {
                Ok((_, server)) => ask(server.clone()).await,
                Err(error) => Err(self.unknown(error)),
            };
            match answer {
                Err(error) if is_elsewhere(&error) && looks < most_looks => {
                    looks += 1;
                    self.look_again(&layout).await;
                }
                Err(error) if is_elsewhere(&error) => {
                    self.moved.notify_one();
                    return Err(StoreError::RunMoves { reason: error.to_string() });
                }
                Err(error) => {
                    if error.is_transient() {
                        self.moved.notify_one();
                    }
                    return Err(error);
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Why nobody is known to have a slot: that nobody could be asked, if so.
    fn unknown(&self, error: StoreError) -> StoreError {
        match &*self.trouble.lock() {
            Some(reason) => StoreError::Unreachable { reason: reason.clone() },
            None => error,
        }
    }

    async fn on_server_of_run<T, F>(
        &self,
        run: &RunId,
        ask: impl Fn(Server) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        self.on_server_of(&self.key_of(run), LOOKS_TO_READ, ask).await
    }

    /// Appends to a run that is elsewhere by now. Who waits for that waits for the others in its batch, so where slots
    /// take their time this is not patient.
    async fn append_elsewhere(
        &self,
        append: &RunAppend,
    ) -> Result<Vec<PublishOutcome>, StoreError> {
        let (key, now) = (self.key_of(&append.run), Instant::now());
        let slot = slot_of(&key);
        let is_restless = self.restless.lock().get(&slot).is_some_and(|until| now < *until);
        let looks = if is_restless { 0 } else { LOOKS_TO_APPEND };
        let append = slice::from_ref(append);
        let result = self.on_server_of(&key, looks, move |server| async move {
            let results = server.append(append).await;
            results.into_iter().next().unwrap_or_else(|| Err(odd("no outcome")))
        });
        let result = result.await;
        if matches!(result, Err(StoreError::RunMoves { .. })) {
            let mut restless = self.restless.lock();
            restless.retain(|_, until| now < *until);
            restless.insert(slot, Instant::now() + RESTLESS);
        }
        result
    }

    async fn append_all(
        &self,
        appends: &[RunAppend],
    ) -> Vec<Result<Vec<PublishOutcome>, StoreError>> {
        self.list_before(appends).await;
        let layout = self.layout_after_the_first_survey().await;
        let mut results = self.append_where(&layout, appends).await;
        // Those whose server has them no more are looked for.
        let elsewhere =
            (0..results.len()).filter(|i| results[*i].as_ref().is_err_and(is_elsewhere));
        let again = elsewhere
            .map(|index| async move { (index, self.append_elsewhere(&appends[index]).await) });
        for (index, result) in join_all(again).await {
            results[index] = result;
        }
        for (append, result) in appends.iter().zip(&results) {
            match result {
                Ok(outcomes) => self.tell_of(&append.run, outcomes),
                Err(error) if error.is_transient() => self.moved.notify_one(),
                Err(_) => {}
            }
        }
        results
    }

    /// Appends on all servers at once.
    async fn append_where(
        &self,
        layout: &Layout,
        appends: &[RunAppend],
    ) -> Vec<Result<Vec<PublishOutcome>, StoreError>> {
        let (mut results, mut shares) = (Vec::new(), HashMap::<_, (_, Vec<_>)>::new());
        for (index, append) in appends.iter().enumerate() {
            match layout.server_of(&self.key_of(&append.run)) {
                Ok((address, server)) => {
                    let share = shares.entry(address).or_insert_with(|| (server, Vec::new()));
                    share.1.push(index);
                    results.push(Err(odd("no outcome")));
                }
                Err(error) => results.push(Err(self.unknown(error))),
            }
        }
        let shares = shares.into_values().map(|(server, indexes)| async move {
            let share: Vec<RunAppend> = indexes.iter().map(|i| appends[*i].clone()).collect();
            (server.append(&share).await, indexes)
        });
        for (share, indexes) in join_all(shares).await {
            for (index, result) in indexes.into_iter().zip(share) {
                results[index] = result;
            }
        }
        results
    }

    /// Lists runs before their first events are there, so that none is there that is not listed. A list that does not
    /// answer is told afterwards.
    async fn list_before(&self, appends: &[RunAppend]) {
        let runs = self.marks.unlisted(appends.iter().map(|append| &append.run));
        if runs.is_empty() {
            return;
        }
        // Where it belongs on the list is known, by the server's clock, when it has its event; where it is already, it
        // stays. Somebody may find nothing of it before that, and take it off again: so that is told in any case.
        let runs: Vec<_> = runs.into_iter().map(|run| (run, 0)).collect();
        if matches!(timeout(LISTING, self.list(&runs)).await, Ok(Ok(()))) {
            self.marks.told(&runs);
        } else {
            runs.iter().for_each(|(run, at)| self.is_active(run, *at));
        }
    }

    /// Sees to it that the list will know when a run got its last event.
    fn tell_of(&self, run: &RunId, outcomes: &[PublishOutcome]) {
        let stored = outcomes.iter().filter_map(|outcome| match outcome {
            PublishOutcome::Stored(placed) => placed.iter().map(|placed| placed.id.ms).max(),
            PublishOutcome::Already | PublishOutcome::KeyReused { .. } => None,
        });
        if let Some(at) = stored.max() {
            self.is_active(run, at);
        }
    }

    fn is_active(&self, run: &RunId, at: u64) {
        if self.marks.active(run, at) {
            self.due.notify_one();
        }
    }

    /// Puts runs on the list, or tells it that they were active.
    async fn list(&self, runs: &[(RunId, u64)]) -> Result<(), StoreError> {
        for runs in runs.chunks(RUNS_A_COMMAND) {
            let mut command = redis::cmd("ZADD");
            command.arg(RUNS).arg("GT");
            for (run, at) in runs {
                command.arg(at).arg(run.as_str());
            }
            self.change_list(command).await?;
        }
        Ok(())
    }

    async fn change_list(&self, command: Cmd) -> Result<Value, StoreError> {
        self.on_server_of(RUNS, LOOKS_TO_READ, |server| {
            let command = command.clone();
            async move { server.inner.writes.command(command).await }
        })
        .await
    }

    /// Tells the list what it does not know yet.
    async fn tell_list(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.telling.lock().await;
        let due = self.marks.due();
        self.list(&due).await?;
        self.marks.told(&due);
        Ok(())
    }

    /// Takes runs off the list of which nothing is kept. Answers how many.
    async fn unlist(&self, runs: Vec<RunId>) -> Result<usize, StoreError> {
        if runs.is_empty() {
            return Ok(0);
        }
        let mut command = redis::cmd("ZREM");
        command.arg(RUNS);
        for run in &runs {
            self.marks.gone(run);
            command.arg(run.as_str());
        }
        self.change_list(command).await?;
        // One may have begun again meanwhile, by whoever takes it to be listed: to ask for it lists it.
        let kept = self.kept(&runs).await?;
        let again: Vec<&RunId> =
            runs.iter().zip(kept).filter(|(_, kept)| *kept).map(|(r, _)| r).collect();
        for run in &again {
            self.state(run).await?;
        }
        Ok(runs.len() - again.len())
    }

    /// How a run stands. What others have written to it the list is told of.
    async fn state(&self, run: &RunId) -> Result<RunState, StoreError> {
        let ask = move |server: Server| async move { server.run(run).await };
        let state = self.on_server_of_run(run, ask).await?;
        if let RunState::Known(info) = &state {
            self.is_active(run, info.updated_ms);
        }
        Ok(state)
    }

    /// Of each run whether anything is kept.
    async fn kept(&self, runs: &[RunId]) -> Result<Vec<bool>, StoreError> {
        let asked = runs.iter().map(|run| {
            self.on_server_of_run(run, move |server| async move { server.keeps(run).await })
        });
        let kept = join_all(asked).await.into_iter();
        // What is moving is somewhere.
        kept.map(|kept| match kept {
            Err(StoreError::RunMoves { .. }) => Ok(true),
            other => other,
        })
        .collect()
    }

    async fn probe_all(&self) -> Result<(), StoreError> {
        for look in 0..LOOKS_TO_READ {
            let layout = self.layout_after_the_first_survey().await;
            match layout.probe(look).await {
                // The slot of what was written has just moved.
                Err(error) if is_elsewhere(&error) => self.look_again(&layout).await,
                Err(error) => {
                    self.moved.notify_one();
                    return Err(self.unknown(error));
                }
                Ok(()) => return Ok(()),
            }
        }
        let reason = "the servers of the cluster do not agree which of them has which keys".into();
        Err(StoreError::Refused { reason })
    }
}

/// Surveys until the store is gone.
async fn keep_surveying(cluster: Weak<Cluster>, moved: Arc<Notify>) {
    while let Some(cluster) = cluster.upgrade() {
        cluster.survey().await;
        drop(cluster);
        tokio::time::sleep(BETWEEN_SURVEYS).await;
        drop(timeout(SURVEY_EVERY, moved.notified()).await);
    }
}

/// Tells the list of runs until the store is gone.
async fn keep_telling(cluster: Weak<Cluster>, due: Arc<Notify>) {
    loop {
        // The store may be gone before it has anything to tell.
        let wanted = timeout(SURVEY_EVERY, due.notified()).await.is_ok();
        let Some(cluster) = cluster.upgrade() else { return };
        if !wanted {
            continue;
        }
        let pause = match cluster.tell_list().await {
            Ok(()) => BETWEEN_ROUNDS,
            Err(error) => {
                log::debug!("could not tell the list of runs who was active: {error}");
                due.notify_one();
                AFTER_A_FAILED_ROUND
            }
        };
        drop(cluster);
        tokio::time::sleep(pause).await;
    }
}

impl Listing for Cluster {
    fn servers(&self) -> Vec<Server> {
        self.layout().servers.values().cloned().collect()
    }

    async fn ask_list(&self, question: Cmd) -> Result<Value, StoreError> {
        self.on_server_of(RUNS, LOOKS_TO_READ, |server| {
            let question = question.clone();
            async move { server.inner.reads.command(question).await }
        })
        .await
    }

    fn are_unlisted(&self, runs: &[RunId]) {
        runs.iter().for_each(|run| self.marks.gone(run));
    }

    async fn states(&self, runs: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let asked = join_all(runs.iter().map(|run| self.state(run))).await.into_iter();
        // A run that is broken, or just moving, is left out of lists, not the others with it.
        asked
            .map(|state| match state {
                Err(StoreError::BrokenRun { .. } | StoreError::RunMoves { .. }) => {
                    Ok(RunState::Unknown)
                }
                other => other,
            })
            .collect()
    }

    async fn forget(&self, runs: &[RunId]) -> Result<usize, StoreError> {
        let kept = self.kept(runs).await?;
        let gone = runs.iter().zip(kept).filter(|(_, kept)| !kept);
        self.unlist(gone.map(|(run, _)| run.clone()).collect()).await
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("place", &self.place).finish_non_exhaustive()
    }
}

impl LogStore for Cluster {
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>> {
        Box::pin(self.append_all(appends))
    }

    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        Box::pin(
            self.on_server_of_run(
                run,
                move |server| async move { server.range(run, request).await },
            ),
        )
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
        Box::pin(async move {
            // Whoever has just published finds it there, if the list can be told.
            if let Err(error) = self.tell_list().await {
                log::debug!("the list of runs was not told who was active: {error}");
            }
            listing::page(self, after, limit, status).await
        })
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        Box::pin(self.on_server_of_run(run, move |server| async move {
            server.set_expiry(run, after).await
        }))
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        Box::pin(async move {
            let delete = |server: Server| async move { server.delete(run).await };
            let was_there = self.on_server_of_run(run, delete).await?;
            // The run is gone, whether the list can be told or not: that is swept.
            if let Err(error) = self.unlist(vec![run.clone()]).await {
                log::debug!("could not take run {run} off the list: {error}");
            }
            Ok(was_there)
        })
    }

    fn deleted_at<'a>(&'a self, run: &'a RunId) -> Answer<'a, Option<u64>> {
        Box::pin(
            self.on_server_of_run(run, move |server| async move { server.deleted_at(run).await }),
        )
    }

    fn tail(&self, run: &RunId, after: EventId) -> Tail {
        tail::follow(Weak::clone(&self.this), self.layouts.subscribe(), run, after)
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.probe_all())
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(listing::sweep(self, &self.sweep_at))
    }

    fn status(&self) -> StoreStatus {
        let trouble = self.trouble.lock().clone();
        let servers = self.servers();
        let trouble = trouble.or_else(|| servers.iter().find_map(|s| s.status().trouble));
        StoreStatus { kind: "redis", place: self.place.to_string(), trouble }
    }
}
