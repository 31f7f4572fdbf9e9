//! The hub: takes publishes in, gives followed runs out, and keeps its actors alive.
//!
//! [`Hub`] is the handle that everything above uses. Below it, WriterActors batch appends to the store
//! (`writer`), a RunActor per followed run reads its tail once for everybody (`run`), a
//! SubscriberActor per stream finds the seam between history and live (`subscriber`), and the
//! SupervisorActor restarts what dies and owns the mode (`supervisor`). Nothing here knows of HTTP or
//! of a particular store.

mod arbiters;
mod first;
pub mod jobs;
mod left_out;
mod local;
#[doc(hidden)]
pub mod measured;
pub mod mode;
mod obituary;
mod pages;
pub mod publish;
pub mod publisher;
mod questions;
mod registry;
pub mod restart;
mod run;
mod search;
pub mod subscriber;
mod supervisor;
#[cfg(test)]
mod tests;
mod watchdog;
mod writer;

pub(crate) use arbiters::threads;
pub use jobs::JobPublisher;
pub use local::{Events, Followed};
pub use mode::{Mode, ModeReport};
pub use publish::{Ack, PublishError, Published};
pub use publisher::Publish;
pub use run::{Gap, GapReason};
pub use subscriber::{
    CloseReason, Control, Item, ManySubscription, ReadyEvent, Shape, Shortcut, Start,
    SubscribeError, SubscribeOptions, Subscription,
};

use crate::config::Config;
use crate::event::{Event, InvalidEvent, LifecycleRules, ReadRules, RunId, RunStatus, Upcasters};
use crate::spool::{Spool, SpoolStatus};
use crate::store::{
    Answer, LogStore, Page, RangeRequest, RunState, RunsCursor, RunsPage, StoreError, StoreStatus,
};
use crate::telemetry::metrics;
use arbiters::Arbiters;
use futures::FutureExt;
use mode::SharedMode;
use pages::Pages;
use parking_lot::Mutex;
use questions::Questions;
use registry::Registry;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use supervisor::{SupervisorActor, SupervisorSlot};
use tokio::sync::Notify;
use writer::Shard;

/// The hub. Clones share it.
#[derive(Clone)]
pub struct Hub {
    core: Arc<Core>,
}

/// What the actors share.
struct Core {
    config: Config,
    store: Arc<dyn LogStore>,
    spool: Spool,
    rules: ReadRules,
    arbiters: Arbiters,
    shards: Vec<Shard>,
    registry: Registry,
    pages: Pages,
    /// How runs stand, as is being asked.
    standings: Questions<RunId, Result<RunState, StoreError>>,
    mode: SharedMode,
    supervisor: Mutex<SupervisorSlot>,
    open_streams: AtomicUsize,
    /// Whether the store was asked at least once how it is.
    started: AtomicBool,
    closing: AtomicBool,
    /// Wakes those who wait until the hub is stopping.
    closes: Notify,
}

impl Hub {
    /// Starts the actors on threads of their own. Must be called within an actix system. What the spool
    /// holds from an earlier life reaches the store first.
    pub fn start(config: Config, store: Arc<dyn LogStore>, spool: Spool) -> Self {
        Self::start_with(config, store, spool, Upcasters::default())
    }

    /// The same, with what turns the data of older versions into today's for every reader.
    pub fn start_with(
        config: Config,
        store: Arc<dyn LogStore>,
        spool: Spool,
        upcasters: Upcasters,
    ) -> Self {
        let arbiters = Arbiters::start();
        let shards = writer::shards(arbiters.count(), &config.publish, &spool);
        let core = Arc::new(Core {
            rules: ReadRules { lifecycle: config.retention.terminal.rules(), upcasters },
            registry: Registry::default(),
            pages: Pages::default(),
            standings: Questions::default(),
            mode: SharedMode::default(),
            supervisor: Mutex::default(),
            open_streams: AtomicUsize::new(0),
            started: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closes: Notify::new(),
            config,
            store,
            spool,
            arbiters,
            shards,
        });
        metrics::mode(core.mode.report().mode.as_str());
        SupervisorActor::start_for(&core);
        if let Err(e) = watchdog::start(&core) {
            log::error!(
                "cannot start the watchdog, so that a stuck actor would not be replaced: {e}"
            );
        }
        Self { core }
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// The rules of a run's life it runs with.
    pub fn lifecycle(&self) -> &LifecycleRules {
        &self.core.rules.lifecycle
    }

    /// What turns the data of older versions into today's.
    pub fn upcasters(&self) -> &Upcasters {
        &self.core.rules.upcasters
    }

    /// Lets an event through to be published, unless its data is not as its type says and that is asked
    /// for (`events.strict`). Data of an older version is judged by what readers will see.
    pub fn admit(&self, event: Event) -> Result<Event, InvalidEvent> {
        if self.core.config.events.strict {
            event.typed_by(self.upcasters())?;
        }
        Ok(event)
    }

    /// Reads events of a run.
    pub fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        self.core.store.range(run, request)
    }

    /// The state of a run.
    pub async fn run(&self, run: &RunId) -> Result<RunState, StoreError> {
        self.core.run(run).await
    }

    /// Lists runs, newest activity first.
    pub fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage> {
        self.core.store.runs(after, limit, status)
    }

    /// Lets a run expire after this time.
    pub fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        self.core.store.set_expiry(run, after)
    }

    /// Forgets a run and closes its streams; false if it was not there. Not while something of it is
    /// spooled: that would bring it back.
    pub async fn delete(&self, run: &RunId) -> Result<bool, StoreError> {
        if self.core.writer(run).is_run_behind(run) {
            let reason =
                "events of the run still wait for the store; delete it again later".to_owned();
            return Err(StoreError::Refused { reason });
        }
        self.settle().await?;
        let deletion = self.core.registry.deletion(run);
        let was_there = self.core.store.delete(run).await?;
        if was_there {
            self.core.registry.deleted(run, &deletion);
        }
        Ok(was_there)
    }

    /// Makes sure that what the store has got from the spool is not sent again after a crash. It does no harm to a
    /// run that knows what it has; one that is deleted knows nothing.
    async fn settle(&self) -> Result<(), StoreError> {
        let (settled, outcome) = tokio::sync::oneshot::channel();
        self.core.spool.settle(move |outcome| settled.send(outcome).unwrap_or_default());
        let outcome = tokio::time::timeout(self.core.config.publish.timeout, outcome).await;
        let reason = match outcome {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error.to_string(),
            _ => "the spool's disk does not answer; delete the run again later".to_owned(),
        };
        Err(StoreError::Refused { reason })
    }

    /// The number of open streams of a run, on this hub.
    pub fn subscribers(&self, run: &RunId) -> usize {
        self.core.registry.subscribers(run)
    }

    /// The mode, since when and why.
    pub fn mode(&self) -> ModeReport {
        self.core.mode.report()
    }

    /// How the store is, as last seen.
    pub fn store_status(&self) -> StoreStatus {
        self.core.store.status()
    }

    /// What waits in the spool.
    pub fn spool_status(&self) -> SpoolStatus {
        self.core.spool.status()
    }

    /// Whether the hub knows how its store is: false for a moment after the start.
    pub fn has_started(&self) -> bool {
        self.core.started.load(Ordering::Acquire)
    }

    /// Whether the hub is stopping.
    pub fn is_closing(&self) -> bool {
        self.core.is_closing()
    }

    /// Waits until the hub is stopping.
    pub async fn until_closing(&self) {
        let mut closes = pin!(self.core.closes.notified());
        // It may begin between the look and the wait.
        closes.as_mut().enable();
        if !self.is_closing() {
            closes.await;
        }
    }

    /// Refuses new work, waits until what was taken is stored or spooled, and closes every stream. Takes
    /// no longer than `limit`, and one sync of the spool's disk.
    pub async fn close(&self, limit: Duration) {
        self.core.closing.store(true, Ordering::Release);
        self.core.closes.notify_waiters();
        let deadline = Instant::now() + limit;
        let waiting = || self.core.shards.iter().map(Shard::waiting).sum::<usize>();
        while waiting() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What the store did not take by now waits on the disk for the hub's next life.
        self.core.shards.iter().for_each(Shard::close);
        let (flushed, done) = tokio::sync::oneshot::channel();
        self.core.spool.flush(move || flushed.send(()).unwrap_or_default());
        drop(tokio::time::timeout(limit, done).await);
        let lost = waiting();
        if lost > 0 {
            log::error!(
                "{lost} publishes were still waiting for the store when the hub had to stop, and could not \
                 be spooled"
            );
        }
        self.core.registry.close_all(CloseReason::Shutdown);
    }

    /// Waits until every stream has ended and its reader has been sent all of it.
    pub async fn streams_ended(&self) {
        while self.core.open_streams.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Core {
    /// How a run stands, asked once for all who ask meanwhile.
    async fn run(&self, run: &RunId) -> Result<RunState, StoreError> {
        let (store, of) = (Arc::clone(&self.store), run.clone());
        let put = move || async move { store.run(&of).await }.boxed();
        self.standings.ask(run.clone(), put).await
    }
}
