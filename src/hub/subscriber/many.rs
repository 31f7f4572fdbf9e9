//! Several runs on one stream. Each run has its own subscriber, with its own seam; here their events are
//! put one behind the other, each with an id that says where the reader is in all of the runs.
//!
//! The stream ends when all of its runs are over. Until then one that is over is followed on, as it may begin again: one
//! that has ended by the same subscriber, one that was deleted by a new one.

use super::control::{CloseReason, Control, heartbeat};
use super::outbox::{Item, Shape};
use super::session::{AtEnd, Start, SubscribeError, SubscribeOptions, Subscription, retry};
use crate::event::frame::Framing;
use crate::event::{EventId, RunId, Timestamp, many_cursor};
use crate::hub::Hub;
use crate::hub::run::{Gap, GapReason};
use crate::telemetry::metrics;
use bytes::{Bytes, BytesMut};
use futures::future::{LocalBoxFuture, join_all};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes put together before they are handed over.
const PIECE: usize = 16 << 10;

/// A stream of several runs. Dropping it ends it.
pub struct ManySubscription {
    hub: Hub,
    options: SubscribeOptions,
    framing: Framing,
    runs: Vec<RunId>,
    positions: Vec<EventId>,
    followed: Vec<Followed>,
    /// Whose turn it is.
    turn: usize,
    told_degraded: bool,
    ready: BytesMut,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

/// One of the runs.
struct Followed {
    stream: Option<Subscription>,
    /// A new stream, of a run that was deleted.
    opening: Option<LocalBoxFuture<'static, Result<Opened, SubscribeError>>>,
    /// Nobody knew, when the stream was opened, where the run stands.
    blind: bool,
    /// The reader has all of it, and nothing comes for now.
    over: bool,
}

/// A run's stream, and why nothing comes on it for now, if that is so.
type Opened = (Subscription, Option<SubscribeError>);

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
        let start = |index: usize| match &positions {
            Some(positions) => Start::After(positions[index]),
            None => options.start,
        };
        let opened = runs.iter().enumerate().map(|(index, run)| {
            let options = SubscribeOptions { start: start(index), ..options.clone() };
            self.open_stream(run, options, AtEnd::Stay)
        });
        let opened = join_all(opened).await.into_iter().collect::<Result<Vec<Opened>, _>>()?;
        if opened.iter().all(|(_, over)| over.is_some()) {
            let expired =
                opened.iter().all(|(_, over)| matches!(over, Some(SubscribeError::Expired)));
            return Err(if expired { SubscribeError::Expired } else { SubscribeError::Finished });
        }
        // Where the reader says it was holds until an event says otherwise.
        let at = |(index, (stream, _)): (usize, &Opened)| match &positions {
            Some(positions) => positions[index],
            None => stream.position(),
        };
        let at = opened.iter().enumerate().map(at).collect();
        let followed = opened.into_iter().map(|(stream, over)| Followed {
            blind: positions.is_none() && stream.is_blind(),
            over: over.is_some(),
            stream: Some(stream),
            opening: None,
        });
        let config = &self.config().subscribe;
        Ok(ManySubscription {
            hub: self.clone(),
            options,
            framing,
            positions: at,
            followed: followed.collect(),
            runs,
            turn: 0,
            told_degraded: false,
            ready: BytesMut::from(retry(config.retry)),
            heartbeat: config.heartbeat,
            silence: Box::pin(sleep(config.heartbeat)),
            ended: false,
        })
    }
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
        let streams = self.followed.iter().flat_map(|followed| &followed.stream);
        streams.for_each(Subscription::is_taking);
        // The timer's own waking is asked for at the next call that finds nothing.
        Poll::Ready(Some(self.ready.split().freeze()))
    }

    /// Takes what the runs have, an item of each in turn.
    fn gather(&mut self, cx: &mut Context<'_>) {
        let count = self.followed.len();
        let mut idle = 0;
        while idle < count && self.ready.len() < PIECE && !self.ended {
            let index = self.turn;
            self.turn = (index + 1) % count;
            match self.followed[index].poll_next(cx) {
                Poll::Pending => idle += 1,
                Poll::Ready(item) => {
                    idle = 0;
                    self.take(index, item);
                }
            }
        }
    }

    fn take(&mut self, index: usize, item: Item) {
        match item {
            Item::Event(event) => {
                self.find_out();
                self.positions[index] = event.id;
                (self.followed[index].blind, self.followed[index].over) = (false, false);
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
            // Of a run that is over nothing is missing: it has expired.
            Item::Control(Control::Gap(Gap { reason: GapReason::Reset, .. }))
                if self.followed[index].over => {}
            Item::Control(control @ Control::Gap(_)) => {
                // It matters which of the runs has it.
                let (run, members) = (&self.runs[index], control.members());
                let frame = format!("event: gap\ndata: {{\"run_id\":\"{run}\",{members}}}\n\n");
                self.ready.extend_from_slice(frame.as_bytes());
            }
            Item::Control(Control::Close(reason @ CloseReason::RunFinished)) => {
                self.over(index, reason);
            }
            Item::Control(Control::Close(reason @ CloseReason::RunDeleted)) => {
                self.positions[index] = EventId::START;
                self.over(index, reason);
                if !self.ended {
                    self.open_anew(index);
                }
            }
            Item::Control(close @ Control::Close(_)) => {
                self.ready.extend_from_slice(&close.to_sse());
                self.ended = true;
            }
            // Streams of items have none.
            Item::Bytes(_) => {}
        }
    }

    /// Learns where the runs stood that nobody knew of.
    fn find_out(&mut self) {
        for (followed, position) in self.followed.iter_mut().zip(&mut self.positions) {
            if followed.blind
                && let Some(stream) = followed.stream.as_ref().filter(|s| !s.is_blind())
            {
                (*position, followed.blind) = (stream.position(), false);
            }
        }
    }

    /// A run has nothing more to come for now.
    fn over(&mut self, index: usize, reason: CloseReason) {
        self.followed[index].over = true;
        if self.followed.iter().all(|followed| followed.over) && !self.ended {
            metrics::stream_closed(reason.as_str());
            let close = Control::Close(reason);
            self.ready.extend_from_slice(&close.to_sse());
            self.ended = true;
        }
    }

    /// Follows what a run will be that was deleted.
    fn open_anew(&mut self, index: usize) {
        let (hub, run) = (self.hub.clone(), self.runs[index].clone());
        let options =
            SubscribeOptions { start: Start::Beginning, must_exist: false, ..self.options.clone() };
        let followed = &mut self.followed[index];
        // Its place among the streams is free for the new one.
        followed.stream = None;
        followed.opening =
            Some(Box::pin(async move { hub.open_stream(&run, options, AtEnd::Stay).await }));
    }
}

impl Followed {
    /// What the run has next.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some(opening) = &mut self.opening {
            let opened = ready!(opening.as_mut().poll(cx));
            self.opening = None;
            // Where there is no room for it the reader hears no more of this run.
            self.stream = opened.ok().map(|(stream, _)| stream);
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
