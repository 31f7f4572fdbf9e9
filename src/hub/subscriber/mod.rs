//! The SubscriberActor: one reader's way through a run, from its cursor to the live feed.
//!
//! It reads the store until it has caught up, then takes the batches its RunActor shares ([`live`]), or that takes them
//! in its stead ([`feed`]); where exactly one goes over into the other is decided in [`seam`]. What it has for its
//! reader goes into a bounded [`outbox`]. A reader that is slow falls behind and is served from the store again; one
//! that takes nothing for long is cut.

mod control;
mod feed;
mod live;
mod many;
pub(super) mod measured;
mod opening;
mod outbox;
mod seam;
mod session;
mod shortcut;

pub use control::{CloseReason, Control};
pub use many::ManySubscription;
pub use outbox::{Item, Outbox, Pulled, ReadyEvent, Shape};
pub use session::{Start, SubscribeError, SubscribeOptions, Subscription};
pub use shortcut::Shortcut;

pub(super) use feed::Feed;

use super::Core;
use super::mode::Mode;
use super::obituary::Obituary;
use super::pages::ReadPage;
use super::registry::{Listener, SubscriberKey};
use super::run::Gap;
use crate::event::{EncodedBatch, EventId, RunId, Sequence, Timestamp, delta};
use crate::store::RangeRequest;
use crate::telemetry::metrics;
use actix::prelude::*;
use live::AfterBatch;
use opening::Opening;
use seam::{AfterPage, Seam};
use session::AtEnd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a subscriber hears from its run.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(super) enum FromRun {
    /// New events, behind a gap or not.
    Batch { batch: Arc<EncodedBatch>, gap: Option<Gap> },
    /// New events were put into the feed. What is left to do.
    Heard(AfterBatch),
    /// The run has been broadcast up to here.
    Reached(EventId),
    /// The run's events were lost; positions begin anew. When another hub deleted the run, in ms since the Unix epoch,
    /// if that is why.
    Reset { deleted_at: Option<u64> },
    /// The hub's mode has changed.
    ModeChanged,
    /// The stream is to be closed.
    Close(CloseReason),
}

/// Request of the reader's side: there is room in the outbox again.
#[derive(Message)]
#[rtype(result = "()")]
struct Room;

/// Notice of the reader's side: the reader is gone.
#[derive(Message)]
#[rtype(result = "()")]
struct Gone;

/// Events and bytes read from the store at a time where deltas are folded.
const FOLD_EVENTS: usize = 20_000;
const FOLD_BYTES: usize = 4 << 20;
/// How long to wait before a read is tried again that the store did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The actor; see the module.
pub(super) struct SubscriberActor {
    core: Arc<Core>,
    run: RunId,
    outbox: Arc<Outbox>,
    feed: Arc<Feed>,
    /// Where the run stood when the reader came.
    known_last: EventId,
    /// The oldest event that the run held then, if that is known and the log has not begun anew.
    known_first: Option<EventId>,
    /// Whether the reader's cursor may point behind the oldest event kept.
    doubtful: bool,
    /// A reset that is to be said as soon as the oldest event is known.
    reset_from: Option<EventId>,
    key: Option<SubscriberKey>,
    obituary: Obituary,
}

impl SubscriberActor {
    const NAME: &'static str = "SubscriberActor";

    /// Asks until the store answers how the run stands, and begins there.
    fn find_out(&mut self, start: Start, ctx: &mut Context<Self>) {
        let (core, run) = (Arc::clone(&self.core), self.run.clone());
        let asked = async move { core.run(&run).await };
        ctx.spawn(asked.into_actor(self).map(move |state, actor, ctx| match state {
            _ if actor.core.is_closing() => actor.close(CloseReason::Shutdown, ctx),
            Ok(state) => {
                let (known, over) = Opening::even_if_over(start, &state);
                if over.is_some() {
                    // A reader that comes back is told how.
                    actor.end(ctx);
                    if actor.outbox.at_end() == AtEnd::Close {
                        return;
                    }
                }
                actor.outbox.restart(known.cursor, known.ended);
                *actor.feed.seam() = Seam::new(known.cursor);
                actor.known_last = known.last;
                actor.doubtful = known.doubtful;
                actor.known_first = known.first;
                actor.reset_from = known.reset_from;
                actor.attach(ctx);
            }
            Err(_) => {
                ctx.run_later(RETRY_AFTER, move |actor, ctx| actor.find_out(start, ctx));
            }
        }));
    }

    /// Begins to hear of the run.
    fn attach(&mut self, ctx: &mut Context<Self>) {
        let (cursor, position) = (self.feed.seam().cursor(), self.known_last);
        let listener = Listener::new(ctx.address().recipient(), &self.feed);
        let key = self.core.registry.attach(&self.core, &self.run, listener, position, cursor);
        self.key = Some(key);
        // It may have changed while nobody could tell this reader.
        self.tell_mode();
        if self.core.is_closing() {
            // It came while the others were told.
            return self.close(CloseReason::Shutdown, ctx);
        }
        let must_read = self.reset_from.is_some() || self.doubtful;
        let read = self.feed.seam().begin(position, must_read);
        match read {
            true => self.read(ctx),
            false => self.end_if_over(ctx),
        }
        self.feed.handled();
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        let (core, run) = (Arc::clone(&self.core), self.run.clone());
        let cursor = self.feed.seam().read_begins();
        let folds = self.outbox.folds().cloned();
        let held = self.known_first.map(|first| (first, self.known_last));
        let read = async move {
            let Some(filter) = folds else { return core.page(&run, cursor, held).await };
            // A message is folded whole where one page holds it.
            let request = RangeRequest::after(cursor, FOLD_EVENTS, FOLD_BYTES);
            let page = core.store.range(&run, request).await?;
            Ok(Arc::new(ReadPage::of(page, |page| {
                let folded = delta::fold(page.events, &filter, page.more);
                EncodedBatch::encode_folded(cursor, folded, &core.rules)
            })))
        };
        ctx.spawn(read.into_actor(self).map(|page, actor, ctx| match page {
            Ok(page) => actor.take_page(page, ctx),
            Err(error) => {
                log::debug!("a subscriber's read of run {} failed: {error}", actor.run);
                ctx.run_later(RETRY_AFTER, SubscriberActor::read);
            }
        }));
    }

    fn take_page(&mut self, page: Arc<ReadPage>, ctx: &mut Context<Self>) {
        if self.feed.seam().page_is_stale() {
            return self.read(ctx);
        }
        let cursor = self.feed.seam().cursor();
        let (at, first) = (self.outbox.progress().sequence, page.first);
        if let Some(requested) = self.reset_from.take() {
            let oldest = first.map(|(id, _)| id);
            let reason = super::run::GapReason::Reset;
            self.outbox.push_control(Control::Gap(Gap { reason, requested, oldest, missed: None }));
        } else if let Some((_, sequence)) = first {
            let follows = match (at, sequence) {
                (Some(at), Some(next)) => at.missing_before(next) == Some(0),
                // Before the first event of all there is nothing to miss.
                (None, Some(next)) => next == Sequence::FIRST,
                _ => false,
            };
            let is_unnumbered = sequence.is_none() && cursor > EventId::START;
            if !follows && (self.doubtful || at.is_some() || is_unnumbered) {
                match page.oldest {
                    Some(oldest) => self.say_gap(&page, cursor, oldest),
                    None => return self.find_gap(page, cursor, ctx),
                }
            }
        } else if self.doubtful {
            // There was something behind the cursor, and nothing is kept.
            let reason = super::run::GapReason::Trimmed;
            let gap = Gap { reason, requested: cursor, oldest: None, missed: None };
            self.outbox.push_control(Control::Gap(gap));
        }
        self.doubtful = false;
        self.deliver_page(&page, ctx);
    }

    /// Asks for the oldest event kept before a page is delivered that does not follow the cursor.
    fn find_gap(&mut self, page: Arc<ReadPage>, cursor: EventId, ctx: &mut Context<Self>) {
        let (core, run) = (Arc::clone(&self.core), self.run.clone());
        let asked = async move { core.store.range(&run, RangeRequest::oldest()).await };
        ctx.spawn(asked.into_actor(self).map(move |oldest, actor, ctx| {
            let Ok(oldest) = oldest else {
                ctx.run_later(RETRY_AFTER, move |actor, ctx| actor.find_gap(page, cursor, ctx));
                return;
            };
            if actor.feed.seam().page_is_stale() {
                return actor.read(ctx);
            }
            if let Some(oldest) = oldest.events.first() {
                actor.say_gap(&page, cursor, oldest.id);
            }
            actor.doubtful = false;
            actor.deliver_page(&page, ctx);
        }));
    }

    /// Says what is missing between the cursor and a page behind it, if the oldest event kept is not before the cursor.
    fn say_gap(&self, page: &ReadPage, cursor: EventId, oldest: EventId) {
        let Some((first, sequence)) = page.first else { return };
        if oldest > cursor && (cursor > EventId::START || sequence.is_some()) {
            let at = self.outbox.progress().sequence.or_else(|| Seam::sequence_before_all(cursor));
            // The page may have been trimmed since it was read.
            let gap = Gap::between(cursor, at, oldest.min(first), sequence);
            self.outbox.push_control(Control::Gap(gap));
        }
    }

    fn deliver_page(&mut self, page: &ReadPage, ctx: &mut Context<Self>) {
        let cursor = self.feed.seam().cursor();
        // While the store is read nobody else puts anything in, and nobody need wait for this.
        self.outbox.push_batch(&page.batch, cursor);
        let (empty, full) = (page.first.is_none(), self.outbox.is_full());
        match self.feed.after_page(page.batch.last, empty, page.more, full) {
            AfterPage::Read => self.read(ctx),
            AfterPage::WaitForRoom => self.wait_for_room(ctx),
            AfterPage::Live => self.end_if_over(ctx),
        }
        self.feed.handled();
    }

    fn wait_for_room(&mut self, ctx: &mut Context<Self>) {
        if !self.outbox.ask_for_room() {
            // It was emptied in this very moment.
            ctx.notify(Room);
        }
    }

    /// At the head of the run: over, if the run is.
    fn end_if_over(&mut self, ctx: &mut Context<Self>) {
        if self.outbox.progress().ended {
            self.end(ctx);
        }
    }

    /// The reader has everything of a run that is over.
    fn end(&mut self, ctx: &mut Context<Self>) {
        match self.outbox.at_end() {
            AtEnd::Close => self.close(CloseReason::RunFinished, ctx),
            // More may come of a run that is over: what is behind is read first, and then this is said.
            AtEnd::Stay if self.outbox.is_full() && self.feed.seam().fall_behind() => {
                self.wait_for_room(ctx);
            }
            AtEnd::Stay => self.outbox.push_control(Control::Close(CloseReason::RunFinished)),
        }
    }

    fn close(&mut self, reason: CloseReason, ctx: &mut Context<Self>) {
        // Else it is one of several runs' whose stream goes on.
        if self.outbox.at_end() == AtEnd::Close {
            metrics::stream_closed(reason.as_str());
        }
        self.outbox.close(reason);
        ctx.stop();
    }

    /// Cuts a reader that takes nothing.
    fn cut(&self, ctx: &mut Context<Self>) {
        // A stream of several runs is not read on, and so each of its subscribers comes to this.
        if self.outbox.cut().tell() {
            let stall = self.core.config.subscribe.stall_timeout;
            log::info!("cut a reader of run {} that took nothing for {stall:?}", self.run);
            metrics::stream_closed(CloseReason::SlowClient.as_str());
        }
        self.outbox.close(CloseReason::SlowClient);
        ctx.stop();
    }

    /// Tells the reader that the store is away, or is back and has everything, unless it knows.
    fn tell_mode(&self) {
        let report = self.core.mode.report();
        let since = Timestamp::from_ms(report.since_ms);
        let (degraded, control) = match report.mode {
            Mode::Degraded => (true, Control::Degraded(since)),
            Mode::Normal => (false, Control::Recovered(since)),
            Mode::Recovering => return,
        };
        if self.outbox.learn_mode(degraded) {
            self.outbox.push_control(control);
        }
    }

    /// Heartbeats when there is silence, and the cut of a reader that takes nothing.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let config = &self.core.config.subscribe;
        let now = Instant::now();
        if self.outbox.has_stalled(now, config.stall_timeout) {
            return self.cut(ctx);
        }
        let next = self.outbox.heartbeat(now, config.heartbeat).min(config.stall_timeout / 4);
        ctx.run_later(next.max(Duration::from_millis(10)), Self::watch);
    }

    fn hear(&mut self, message: FromRun, ctx: &mut Context<Self>) {
        match message {
            FromRun::Batch { batch, gap } => {
                let after = live::hear(&mut self.feed.seam(), &self.outbox, &batch, gap);
                self.go_on(after, ctx);
            }
            FromRun::Heard(after) => self.go_on(after, ctx),
            FromRun::Reached(position) => {
                let had = self.outbox.progress().cursor;
                let read = {
                    let mut seam = self.feed.seam();
                    // A RunActor that died may have put in more than it came to note.
                    seam.delivered(had);
                    seam.on_reached(position)
                };
                if read {
                    self.read(ctx);
                }
            }
            FromRun::Reset { deleted_at } => self.begin_anew(deleted_at, ctx),
            FromRun::ModeChanged => self.tell_mode(),
            FromRun::Close(reason) => self.close(reason, ctx),
        }
    }

    /// Does what is left to do after a live batch.
    fn go_on(&mut self, after: AfterBatch, ctx: &mut Context<Self>) {
        match after {
            AfterBatch::Nothing => {}
            AfterBatch::Read => {
                metrics::fell_behind();
                self.read(ctx);
            }
            AfterBatch::WaitForRoom => {
                metrics::fell_behind();
                self.wait_for_room(ctx);
            }
            AfterBatch::End => self.end(ctx),
        }
    }

    /// The run's positions begin anew.
    fn begin_anew(&mut self, deleted_at: Option<u64>, ctx: &mut Context<Self>) {
        let cursor = self.feed.seam().cursor();
        // Whoever has nothing yet misses nothing.
        if cursor > EventId::START {
            match deleted_at {
                Some(at) if cursor.ms <= at => return self.close(CloseReason::RunDeleted, ctx),
                // It reads what was stored since, in order; what comes twice is ignored.
                Some(_) => return,
                None => {}
            }
            self.reset_from.get_or_insert(cursor);
        }
        self.outbox.restart(EventId::START, false);
        self.known_first = None;
        let read = self.feed.seam().reset();
        if read {
            self.read(ctx);
        }
    }
}

impl Actor for SubscriberActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.obituary.begin();
        self.tell_mode();
        match self.outbox.progress().blind {
            Some(start) => self.find_out(start, ctx),
            None => self.attach(ctx),
        }
        let first =
            self.core.config.subscribe.heartbeat.min(self.core.config.subscribe.stall_timeout / 4);
        ctx.run_later(first, Self::watch);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.obituary.retract();
    }
}

impl Drop for SubscriberActor {
    fn drop(&mut self) {
        // However it ends, its run is to know.
        if let Some(key) = self.key.take() {
            self.core.registry.detach(&self.run, key);
        }
    }
}

impl Handler<FromRun> for SubscriberActor {
    type Result = ();

    fn handle(&mut self, message: FromRun, ctx: &mut Self::Context) {
        self.hear(message, ctx);
        self.feed.handled();
    }
}

impl Handler<Room> for SubscriberActor {
    type Result = ();

    fn handle(&mut self, _: Room, ctx: &mut Self::Context) {
        let read = self.feed.seam().room();
        if read {
            self.read(ctx);
        }
    }
}

impl Handler<Gone> for SubscriberActor {
    type Result = ();

    fn handle(&mut self, _: Gone, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
impl Handler<crate::hub::tests::Crash> for SubscriberActor {
    type Result = ();

    fn handle(&mut self, _: crate::hub::tests::Crash, _: &mut Self::Context) {
        panic!("a test crashes the subscriber");
    }
}
