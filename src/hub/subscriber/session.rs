//! A reader's stream: opening it, reading from it, and giving it a new SubscriberActor should its own die.

use super::feed::Feed;
use super::opening::Opening;
use super::outbox::{Item, Progress, Shape};
use super::shortcut::Shortcut;
use super::{Gone, Outbox, Room, SubscriberActor};
use crate::event::{EventId, Filter, RunId};
use crate::hub::obituary::Obituary;
use crate::hub::{Core, Hub};
use crate::store::{RangeRequest, RunState, StoreError};
use crate::telemetry::metrics;
use actix::prelude::*;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

/// Where in a run a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest event kept.
    #[default]
    Beginning,
    /// With what comes from now on.
    Live,
    /// Behind this event.
    After(EventId),
}

/// What a reader asks for.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// Where to begin.
    pub start: Start,
    /// Which events.
    pub filter: Filter,
    /// What the reader takes.
    pub shape: Shape,
    /// Whether of what is stored already the deltas of one message come as one event.
    pub fold_deltas: bool,
    /// Whether a run without events is an error.
    pub must_exist: bool,
}

/// What a stream does when its reader has everything of a run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// It says so and ends.
    Close,
    /// It says so, and goes on if the run begins again.
    Stay,
}

/// Whether it was told that a stream is cut, which one of several runs is told by each of its subscribers.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// True for the first one to tell.
    pub(super) fn tell(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The run has ended and the reader has every event: nothing will come.
    #[error("the run has ended and there is nothing behind this position")]
    Finished,
    /// The run has no events yet, and the reader wants only one that has.
    #[error("there is no such run")]
    NotFound,
    /// The run has expired.
    #[error("the run has expired")]
    Expired,
    /// As many streams are open as may be.
    #[error("too many streams are open")]
    TooMany,
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Closing,
    /// The store cannot tell.
    #[error(transparent)]
    Store(StoreError),
}

/// A run's stream. Dropping it ends it.
pub struct Subscription {
    core: Arc<Core>,
    run: RunId,
    outbox: Arc<Outbox>,
    actor: Addr<SubscriberActor>,
    place: Arc<Place>,
    /// Whether whoever takes from it rests.
    rests: bool,
}

/// One of the streams that may be open.
pub(super) struct Place(Arc<Core>);

impl Place {
    fn take(core: &Arc<Core>) -> Option<Self> {
        let most = usize::try_from(core.config.subscribe.max_subscribers).unwrap_or(usize::MAX);
        let place = Self(Arc::clone(core));
        metrics::subscribers(1.0);
        let open = core.open_streams.fetch_add(1, Ordering::AcqRel);
        (open < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::subscribers(-1.0);
        self.0.open_streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hub {
    /// Opens a stream. Must be called on a thread of an actix system. While the store is away the stream
    /// opens all the same and waits, unless the run must exist.
    pub async fn subscribe(
        &self,
        run: &RunId,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let prepared = self.prepare(run, options, None).await?;
        match prepared.over {
            Some(over) => Err(over),
            None => Ok(prepared.open(AtEnd::Close, Cut::default())),
        }
    }

    /// What [`subscribe`](Self::subscribe) would come to, without a stream.
    pub async fn can_subscribe(
        &self,
        run: &RunId,
        options: SubscribeOptions,
    ) -> Result<(), SubscribeError> {
        self.prepare(run, options, None).await?.over.map_or(Ok(()), Err)
    }

    /// Looks how a run stands for a stream that is to be opened, which may have a place among the streams already.
    pub(super) async fn prepare(
        &self,
        run: &RunId,
        options: SubscribeOptions,
        place: Option<Arc<Place>>,
    ) -> Result<Prepared, SubscribeError> {
        let core = &self.core;
        if self.is_closing() {
            return Err(SubscribeError::Closing);
        }
        let place = match place {
            Some(place) => place,
            None => Arc::new(Place::take(core).ok_or(SubscribeError::TooMany)?),
        };
        let (opening, over, blind) = match self.run(run).await {
            Ok(RunState::Unknown) if options.must_exist => return Err(SubscribeError::NotFound),
            Ok(state) => {
                let (known, mut over) = Opening::even_if_over(options.start, &state);
                if over.is_none() && known.ended && !self.has_more(run, &known, &options).await {
                    over = Some(SubscribeError::Finished);
                }
                (known, over, None)
            }
            Err(error) if options.must_exist || !error.is_transient() => {
                return Err(SubscribeError::Store(error));
            }
            Err(_) => (Opening::at_nothing(), None, Some(options.start)),
        };
        let (core, run) = (Arc::clone(core), run.clone());
        Ok(Prepared { core, run, options, place, opening, over, blind })
    }
}

/// How a run stands for a stream that is to be opened.
pub(super) struct Prepared {
    core: Arc<Core>,
    run: RunId,
    options: SubscribeOptions,
    place: Arc<Place>,
    opening: Opening,
    /// Why nothing comes for now, if the run is over.
    pub(super) over: Option<SubscribeError>,
    blind: Option<Start>,
}

impl Prepared {
    /// Whether the store could not be asked.
    pub(super) fn is_blind(&self) -> bool {
        self.blind.is_some()
    }

    /// Whether the run, as far as is known, holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.opening.last == EventId::START
    }

    /// Opens the stream.
    pub(super) fn open(self, at_end: AtEnd, cut: Cut) -> Subscription {
        let Self { core, run, options, place, opening, blind, .. } = self;
        let config = &core.config.subscribe;
        let (cursor, ended) = (opening.cursor, opening.ended);
        let progress = Progress { began: cursor, cursor, sequence: None, ended, blind };
        let SubscribeOptions { filter, shape, fold_deltas, .. } = options;
        let room = config.outbox.as_usize();
        let outbox = Outbox::new(filter, shape, fold_deltas, room, progress);
        let outbox = Arc::new(outbox.with_end(at_end, cut));
        if matches!(shape, Shape::Sse(_)) {
            outbox.push(Item::Bytes(retry(config.retry)));
        }
        let actor = start(&core, &run, &outbox, &opening);
        Subscription { core, run, outbox, actor, place, rests: false }
    }
}

impl Hub {
    /// Whether a run that has ended holds anything for a reader that comes back. Where a filter hides the
    /// run's last events, the reader's cursor never reaches the end.
    async fn has_more(&self, run: &RunId, known: &Opening, options: &SubscribeOptions) -> bool {
        if !matches!(options.start, Start::After(_)) || options.filter.wants_all() {
            return true;
        }
        let mut cursor = known.cursor;
        loop {
            let request = RangeRequest::after(cursor, 1000, 4 << 20);
            // A store that does not answer now is asked again by the stream itself.
            let Ok(page) = self.core.store.range(run, request).await else { return true };
            if page.events.iter().any(|stored| options.filter.wants_event(&stored.event)) {
                return true;
            }
            match page.events.last() {
                Some(last) if page.more => cursor = last.id,
                _ => return known.reset_from.is_some() || known.doubtful,
            }
        }
    }
}

fn start(
    core: &Arc<Core>,
    run: &RunId,
    outbox: &Arc<Outbox>,
    known: &Opening,
) -> Addr<SubscriberActor> {
    let (orphan, hub) = (Arc::clone(outbox), Arc::downgrade(core));
    let actor = SubscriberActor {
        core: Arc::clone(core),
        run: run.clone(),
        outbox: Arc::clone(outbox),
        feed: Arc::new(Feed::new(known.cursor, Arc::clone(outbox))),
        known_last: known.last,
        doubtful: known.doubtful,
        known_first: known.first,
        reset_from: known.reset_from,
        key: None,
        obituary: Obituary::new(SubscriberActor::NAME, move || {
            orphan.orphan();
            hub.upgrade().is_some_and(|core| !core.is_closing())
        }),
    };
    actor.start()
}

/// What tells an `EventSource` how long to wait before it reconnects.
pub(super) fn retry(after: Duration) -> Bytes {
    format!("retry: {}\n\n", after.as_millis()).into()
}

impl Subscription {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Up to where its reader was when it came.
    pub(super) fn began(&self) -> EventId {
        self.outbox.progress().began
    }

    /// Whether the run is over and its reader has taken everything of it; nothing at all counts as over.
    pub(super) fn is_over(&self) -> bool {
        let Progress { cursor, ended, .. } = self.outbox.progress();
        (ended || cursor == EventId::START) && self.outbox.is_empty()
    }

    /// Its place among the streams, for another in its stead.
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// Whether the store could not be asked yet where the run stands.
    pub(super) fn is_blind(&self) -> bool {
        self.outbox.progress().blind.is_some()
    }

    /// Its reader is taking something, though not of this outbox just now: that is no stall.
    pub fn is_taking(&self) {
        self.outbox.is_taking();
    }

    /// Whoever takes from it has nothing left to write and waits: what comes next may be written by this. False if
    /// there is something to take.
    pub fn rest(&mut self, shortcut: impl FnOnce() -> Box<dyn Shortcut>) -> bool {
        self.rests = self.outbox.rest(shortcut);
        self.rests
    }

    /// Whoever takes from it waits no more, and is the only one to write. What it has to write first.
    pub fn wake_up(&mut self) -> Option<Bytes> {
        std::mem::take(&mut self.rests).then(|| self.outbox.wake_up()).flatten()
    }

    /// The next item of the stream; none at its end.
    pub fn poll_next(&mut self, cx: &TaskContext<'_>) -> Poll<Option<Item>> {
        if self.outbox.take_orphaned() {
            let Progress { cursor, ended, .. } = self.outbox.progress();
            let known = Opening { cursor, last: cursor, ended, ..Opening::at_nothing() };
            self.actor = start(&self.core, &self.run, &self.outbox, &known);
        }
        let pulled = ready!(self.outbox.poll_pull(cx));
        if pulled.tell_of_room {
            self.actor.do_send(Room);
        }
        Poll::Ready(pulled.item)
    }

    #[cfg(test)]
    pub(in crate::hub) fn crash(&self) {
        self.actor.do_send(crate::hub::tests::Crash);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Nothing is written for nobody.
        self.wake_up();
        self.actor.do_send(Gone);
    }
}
