//! Several runs on one stream. Each run has its own subscriber, with its own seam; here their events are
//! put one behind the other, each with an id that says where the reader is in all of the runs.
//!
//! The stream ends when all of its runs are over. Until then one that is over is followed on, as it may begin again: one
//! that has ended by the same subscriber, one that was deleted by a new one.

use super::control::{CloseReason, Control, heartbeat};
use super::outbox::{Item, Shape};
use super::session::{
    AtEnd, Cut, Prepared, Start, SubscribeError, SubscribeOptions, Subscription, retry,
};
use crate::event::frame::Framing;
use crate::event::{EventId, RunId, Timestamp, many_cursor};
use crate::hub::Hub;
use crate::hub::run::{Gap, GapReason};
use crate::telemetry::metrics;
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, join_all};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes handed over at a time: what more is taken as slowly as it may be, it is seen to be taken.
const PIECE: usize = 16 << 10;
/// How long until a run that was deleted, and could not be looked at, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A stream of several runs. Dropping it ends it.
pub struct ManySubscription {
    hub: Hub,
    options: SubscribeOptions,
    framing: Framing,
    runs: Vec<RunId>,
    positions: Vec<EventId>,
    ones: Vec<One>,
    /// Whose turn it is.
    turn: usize,
    told_degraded: bool,
    cut: Cut,
    /// Why the run was over that was so last.
    last_over: Option<CloseReason>,
    ready: BytesMut,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

/// One of the runs.
struct One {
    stream: Option<Subscription>,
    /// A new stream, of a run that was deleted.
    opening: Option<BoxFuture<'static, Option<Prepared>>>,
    /// Nobody knew, when the stream was opened, where the run stands.
    blind: bool,
    /// The run was over when it was last heard of.
    over: bool,
    /// It had expired when the stream was opened, so that nobody knows whether the reader has all of it.
    expired: bool,
}

impl Hub {
    /// Opens a stream of these runs, which must be sorted and each there once, from these positions or all
    /// from `options.start`. It ends when all of them are over.
    pub async fn subscribe_many(
        &self,
        runs: Vec<RunId>,
        positions: Option<Vec<EventId>>,
        options: &SubscribeOptions,
        framing: Framing,
    ) -> Result<ManySubscription, SubscribeError> {
        let options = SubscribeOptions { shape: Shape::Items, ..options.clone() };
        let prepared = self.prepare_many(&runs, positions.as_deref(), &options).await?;
        let cut = Cut::default();
        let ones = prepared.into_iter().map(|prepared| {
            let (expired, over) = (has_expired(&prepared), prepared.over.is_some());
            let stream = prepared.open(AtEnd::Stay, cut.clone());
            let blind = positions.is_none() && stream.is_blind();
            One { stream: Some(stream), opening: None, blind, over, expired }
        });
        let ones: Vec<One> = ones.collect();
        // Where the reader says it was holds until an event says otherwise.
        let positions = positions.unwrap_or_else(|| {
            ones.iter().flat_map(|one| &one.stream).map(Subscription::began).collect()
        });
        let config = &self.config().subscribe;
        Ok(ManySubscription {
            hub: self.clone(),
            options,
            framing,
            positions,
            ones,
            runs,
            turn: 0,
            told_degraded: false,
            cut,
            last_over: None,
            ready: BytesMut::from(retry(config.retry)),
            heartbeat: config.heartbeat,
            silence: Box::pin(sleep(config.heartbeat)),
            ended: false,
        })
    }

    /// What [`subscribe_many`](Self::subscribe_many) would come to, without a stream.
    pub async fn can_subscribe_many(
        &self,
        runs: &[RunId],
        positions: Option<&[EventId]>,
        options: &SubscribeOptions,
    ) -> Result<(), SubscribeError> {
        self.prepare_many(runs, positions, options).await.map(|_| ())
    }

    /// Looks how the runs stand. An error if all are over.
    async fn prepare_many(
        &self,
        runs: &[RunId],
        positions: Option<&[EventId]>,
        options: &SubscribeOptions,
    ) -> Result<Vec<Prepared>, SubscribeError> {
        let start = |index: usize| match positions {
            Some(positions) => Start::After(positions[index]),
            None => options.start,
        };
        let prepared = runs.iter().enumerate().map(|(index, run)| {
            let options = SubscribeOptions { start: start(index), ..options.clone() };
            self.prepare(run, options, None)
        });
        let prepared =
            join_all(prepared).await.into_iter().collect::<Result<Vec<Prepared>, _>>()?;
        if prepared.iter().any(|prepared| prepared.over.is_none()) {
            return Ok(prepared);
        }
        let expired = prepared.iter().all(has_expired);
        Err(if expired { SubscribeError::Expired } else { SubscribeError::Finished })
    }
}

fn has_expired(prepared: &Prepared) -> bool {
    prepared.over == Some(SubscribeError::Expired)
}

impl ManySubscription {
    /// The next bytes of Server-Sent Events; none at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.gather(cx);
        if self.ready.is_empty() && !self.ended && self.silence.as_mut().poll(cx).is_ready() {
            self.ready.extend_from_slice(&heartbeat(Timestamp::now()));
        }
        if self.ready.is_empty() {
            return if self.ended { Poll::Ready(None) } else { Poll::Pending };
        }
        self.silence.as_mut().reset(Instant::now() + self.heartbeat);
        // Whoever takes of one run waits for its turn at the others.
        self.ones.iter().flat_map(|one| &one.stream).for_each(Subscription::is_taking);
        // The timer's own waking is asked for at the next call that finds nothing.
        let piece = self.ready.len().min(PIECE);
        Poll::Ready(Some(self.ready.split_to(piece).freeze()))
    }

    /// Takes what the runs have, an item of each in turn.
    fn gather(&mut self, cx: &mut Context<'_>) {
        let count = self.ones.len();
        let mut idle = 0;
        while idle < count && self.ready.len() < PIECE && !self.ended {
            let index = self.turn;
            self.turn = (index + 1) % count;
            match self.ones[index].poll_next(&self.cut, cx) {
                Poll::Pending => idle += 1,
                Poll::Ready(item) => {
                    idle = 0;
                    self.take(index, item);
                }
            }
        }
        if let Some(reason) = self.last_over
            && !self.ended
            && self.ones.iter().all(One::is_over)
        {
            self.end(reason);
        }
    }

    fn take(&mut self, index: usize, item: Item) {
        match item {
            Item::Event(event) => {
                self.find_out();
                self.say_what_expired(index, event.id);
                self.positions[index] = event.id;
                (self.ones[index].blind, self.ones[index].over) = (false, false);
                let cursor = many_cursor::encode(&self.runs, &self.positions);
                self.ready.extend_from_slice(b"id: ");
                self.ready.extend_from_slice(cursor.as_bytes());
                if self.framing == Framing::Typed {
                    self.ready.extend_from_slice(b"\nevent: ");
                    self.ready.extend_from_slice(event.kind.as_str().as_bytes());
                }
                self.ready.extend_from_slice(b"\ndata: ");
                self.ready.extend_from_slice(&event.json);
                self.ready.extend_from_slice(b"\n\n");
            }
            Item::Control(control @ (Control::Degraded(_) | Control::Recovered(_))) => {
                // Every run's stream says it.
                let degraded = matches!(control, Control::Degraded(_));
                if std::mem::replace(&mut self.told_degraded, degraded) != degraded {
                    self.ready.extend_from_slice(&control.to_sse());
                }
            }
            // It has expired, and the reader has all of it.
            Item::Control(Control::Gap(gap))
                if gap.reason == GapReason::Reset
                    && self.ones[index].over
                    && gap.oldest.is_none_or(|oldest| oldest > gap.requested) => {}
            Item::Control(Control::Gap(gap)) => self.say_gap(index, gap),
            Item::Control(Control::Close(reason @ CloseReason::RunFinished)) => {
                self.over(index, reason);
            }
            Item::Control(Control::Close(reason @ CloseReason::RunDeleted)) => {
                (self.positions[index], self.ones[index].blind) = (EventId::START, false);
                self.over(index, reason);
                self.open_anew(index);
            }
            Item::Control(Control::Close(reason)) => self.end(reason),
            // Streams of items have none.
            Item::Bytes(_) => {}
        }
    }

    /// Says what is missing, and in which run.
    fn say_gap(&mut self, index: usize, gap: Gap) {
        let (run, members) = (&self.runs[index], Control::Gap(gap).members());
        let frame = format!("event: gap\ndata: {{\"run_id\":\"{run}\",{members}}}\n\n");
        self.ready.extend_from_slice(frame.as_bytes());
    }

    /// Before the first event of a run that had expired: what the reader may have missed of its life before.
    fn say_what_expired(&mut self, index: usize, first: EventId) {
        let requested = self.positions[index];
        if std::mem::take(&mut self.ones[index].expired) && requested > EventId::START {
            let (reason, oldest) = (GapReason::Reset, Some(first));
            self.say_gap(index, Gap { reason, requested, oldest, missed: None });
        }
    }

    /// Learns where the runs stood that nobody knew of.
    fn find_out(&mut self) {
        for (one, position) in self.ones.iter_mut().zip(&mut self.positions) {
            if one.blind
                && let Some(stream) = one.stream.as_ref().filter(|s| !s.is_blind())
            {
                (*position, one.blind) = (stream.began(), false);
            }
        }
    }

    /// A run has nothing more to come for now.
    fn over(&mut self, index: usize, reason: CloseReason) {
        (self.ones[index].over, self.last_over) = (true, Some(reason));
    }

    fn end(&mut self, reason: CloseReason) {
        if reason != CloseReason::SlowClient {
            metrics::stream_closed(reason.as_str());
        }
        self.ready.extend_from_slice(&Control::Close(reason).to_sse());
        self.ended = true;
        self.ones.clear();
    }

    /// Follows what a run will be that was deleted.
    fn open_anew(&mut self, index: usize) {
        let Some(stream) = self.ones.get_mut(index).and_then(|one| one.stream.take()) else {
            return;
        };
        let (hub, run, place) = (self.hub.clone(), self.runs[index].clone(), stream.place());
        let (start, must_exist) = (Start::Beginning, false);
        let options = SubscribeOptions { start, must_exist, ..self.options.clone() };
        self.ones[index].opening = Some(Box::pin(async move {
            loop {
                match hub.prepare(&run, options.clone(), Some(Arc::clone(&place))).await {
                    Ok(prepared) if !prepared.is_blind() => return Some(prepared),
                    Err(SubscribeError::Closing) => return None,
                    // The store is away, or something else is kept under the run's key.
                    Ok(_) | Err(_) => sleep(LOOK_AGAIN).await,
                }
            }
        }));
    }
}

impl One {
    /// Whether the run is over, and the reader has all of it. That it begins again may be hidden by a filter, or not
    /// have been taken yet.
    fn is_over(&self) -> bool {
        self.over && self.stream.as_ref().is_none_or(Subscription::is_over)
    }

    /// What the run has next.
    fn poll_next(&mut self, cut: &Cut, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some(opening) = &mut self.opening {
            let prepared = ready!(opening.as_mut().poll(cx));
            self.opening = None;
            if let Some(prepared) = prepared {
                self.over = prepared.over.is_some() || prepared.is_empty();
                self.stream = Some(prepared.open(AtEnd::Stay, cut.clone()));
            }
        }
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        match ready!(stream.poll_next(cx)) {
            Some(item) => Poll::Ready(item),
            None => {
                self.stream = None;
                Poll::Pending
            }
        }
    }
}
