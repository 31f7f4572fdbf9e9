//! Where events live: the [`LogStore`] trait and the stores behind it.
//!
//! A store keeps one ordered log a run and gives each event its place, `id` and `sequence`, in one atomic
//! step. The log is the one truth: whatever a reader sees, it has read from here. `tests/conformance`
//! holds the suite that every store passes.

mod appended;
pub mod embedded;
pub mod error;
mod follow;
mod followers;
mod key_window;
mod ledger;
pub mod memory;
pub mod redis;

pub use error::StoreError;

use crate::config::RetentionConfig;
use crate::event::{EventId, LifecycleRules, NewEvent, RunId, RunStatus, Sequence, StoredEvent};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The rules every store keeps alike.
#[derive(Debug, Clone)]
pub struct StoreRules {
    /// Events kept of each run, at least; a store may keep a tenth more, or a node of a Redis stream.
    pub max_events: u64,
    /// How long a publisher's `event_id` stands for one event.
    pub dedup_window: Duration,
    /// How long a run is kept after its terminal event.
    pub after_end: Duration,
    /// How long an expired run is remembered as such.
    pub tombstone: Duration,
    /// Which types end a run.
    pub lifecycle: LifecycleRules,
}

impl StoreRules {
    /// The rules that the configuration gives.
    pub fn new(retention: &RetentionConfig, dedup_window: Duration) -> Self {
        Self {
            max_events: retention.max_events.max(1),
            dedup_window,
            after_end: retention.after_end,
            tombstone: retention.tombstone,
            lifecycle: retention.terminal.rules(),
        }
    }
}

/// One publish, under the number its writer gave it, so that one whose outcome is unknown can be sent
/// again, alone or with others: a store that has applied it answers [`PublishOutcome::Already`]. A writer
/// numbers what it publishes to a run upwards and has one append to it under way at a time; a store that
/// only this process writes to remembers the last few writers of a run alone.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Its number, rising.
    pub number: u64,
    /// Its events, in order; stored all or none.
    pub events: Arc<[NewEvent]>,
    /// When it was published, in ms since the Unix epoch: an `event_id` stands for what was stored within
    /// `publish.dedup_window` before that, even if this reaches the store later; and if its publisher was answered, for
    /// what was published within that time before or after.
    pub published_ms: u64,
    /// Whether its publisher was answered before it was stored, so that it can be refused no more: an
    /// event whose `event_id` stands for other content is then left out, with the place of that.
    pub answered: bool,
}

impl Publish {
    /// One that is published now; see the fields.
    pub fn now(number: u64, events: Arc<[NewEvent]>, answered: bool) -> Self {
        Self { number, events, published_ms: now_ms(), answered }
    }
}

/// What is to be appended to one run in one atomic step.
#[derive(Debug, Clone)]
pub struct RunAppend {
    /// The run.
    pub run: RunId,
    /// Who numbered the publishes; unlike any other writer, also of other processes.
    pub writer: u64,
    /// The publishes, in order.
    pub publishes: Vec<Publish>,
}

/// What became of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It was applied by an earlier attempt.
    Already,
    /// The place of each event, in order.
    Stored(Vec<Placed>),
    /// Nothing was stored: the event at this index has an `event_id` that stands for other content. The publish was
    /// not applied: should nobody hear of this, it can come again under its number.
    KeyReused {
        /// Index within the publish.
        index: usize,
    },
}

/// The place of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its position.
    pub id: EventId,
    /// Its number.
    pub sequence: Sequence,
    /// Whether it was there before: the same `event_id` was published earlier.
    pub duplicate: bool,
    /// Whether that was with other content: an event that is left out because it can be refused no more.
    pub reused: bool,
}

impl Placed {
    /// The place of an event that was not there before.
    pub fn of_new(id: EventId, sequence: Sequence) -> Self {
        Self { id, sequence, duplicate: false, reused: false }
    }
}

/// Which way a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// Which events of a run to read.
#[derive(Debug, Clone, Copy)]
pub struct RangeRequest {
    /// The least id, inclusive.
    pub start: EventId,
    /// The greatest id, inclusive.
    pub end: EventId,
    /// The most events.
    pub limit: usize,
    /// About how many bytes of events are enough; at least one event is read.
    pub enough_bytes: usize,
    /// Which end to begin at.
    pub order: Order,
}

impl RangeRequest {
    /// The oldest events behind a position.
    pub fn after(position: EventId, limit: usize, enough_bytes: usize) -> Self {
        let start = position.next();
        Self { start, end: EventId::MAX, limit, enough_bytes, order: Order::Ascending }
    }

    /// The event at this position.
    pub fn only(position: EventId) -> Self {
        Self { start: position, end: position, ..Self::oldest() }
    }

    /// The oldest event kept.
    pub fn oldest() -> Self {
        Self::after(EventId::START, 1, 1)
    }
}

/// Events read from a range.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// Whether the range holds more.
    pub more: bool,
}

/// What a store knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// It never was, or is forgotten.
    Unknown,
    /// It has expired and is remembered as such.
    Expired,
    /// It is.
    Known(RunInfo),
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// Running, or how it ended.
    pub status: RunStatus,
    /// Events kept.
    pub length: u64,
    /// The oldest event kept, if any is.
    pub first_id: Option<EventId>,
    /// The last position given; [`EventId::START`] if none was.
    pub last_id: EventId,
    /// The last number given.
    pub last_sequence: Option<Sequence>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub ended_ms: Option<u64>,
    /// Time left before it expires.
    pub expires_in: Option<Duration>,
}

/// A place in the list of runs, newest activity first: behind the run `run` active at `ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsCursor {
    /// The activity of the last run seen, ms since the Unix epoch.
    pub ms: u64,
    /// The last run seen.
    pub run: RunId,
}

/// One page of the list of runs.
#[derive(Debug, Clone, Default)]
pub struct RunsPage {
    /// The runs, newest activity first.
    pub runs: Vec<(RunId, RunInfo)>,
    /// Where the next page begins, if there is one.
    pub next: Option<RunsCursor>,
}

/// What a follower hears of its run.
#[derive(Debug)]
pub enum TailItem {
    /// New events, in order, which follow the position the tail had reached.
    Events(Vec<StoredEvent>),
    /// The tail's position lies ahead of the run's last id, or is one of another stream that was served as this
    /// run: the store was emptied or rolled back, or the run's own stream has begun. The tail goes on from the
    /// oldest event.
    Reset,
}

/// The events of one run as they come; it never ends by itself and waits while the store is away.
pub type Tail = BoxStream<'static, TailItem>;

/// The answer of a store to be awaited.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// How the store itself is.
#[derive(Debug, Clone)]
pub struct StoreStatus {
    /// `redis`, `embedded` or `memory`.
    pub kind: &'static str,
    /// Where it is, without secrets.
    pub place: String,
    /// Why it cannot be reached now, if it cannot.
    pub trouble: Option<String>,
}

/// A store of runs.
pub trait LogStore: Send + Sync + fmt::Debug {
    /// Appends to many runs, each in one atomic step; one result for each, in order, with one outcome for
    /// each of its publishes.
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>>;

    /// Reads events. A run that is not there, or has expired, has none.
    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page>;

    /// The state of a run, foreign events counted in.
    fn run<'a>(&'a self, run: &'a RunId) -> Answer<'a, RunState>;

    /// Lists the runs that are not expired, newest activity first, `limit` at most.
    fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage>;

    /// Lets a run expire after this time, counted from now.
    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState>;

    /// Forgets a run; false if it was not there.
    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool>;

    /// When a hub deleted the run, in ms since the Unix epoch, if that was a short time ago and may have been another
    /// hub: how readers of this one learn what became of their run. A store that only this process writes to has no
    /// other hubs.
    fn deleted_at<'a>(&'a self, _run: &'a RunId) -> Answer<'a, Option<u64>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Follows a run from behind a position.
    fn tail(&self, run: &RunId, after: EventId) -> Tail;

    /// Writes something and reads it back.
    fn probe(&self) -> Answer<'_, ()>;

    /// Removes what has expired, a bounded amount at a time.
    fn sweep(&self) -> Answer<'_, ()>;

    /// How the store is, as last seen; asks nobody.
    fn status(&self) -> StoreStatus;
}

/// Milliseconds since the Unix epoch on this machine's clock.
fn now_ms() -> u64 {
    crate::event::Timestamp::now().as_ms()
}

/// A duration in whole milliseconds.
fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
