//! Several runs on one stream. Each run has its own subscriber, with its own seam; here their events are
//! put one behind the other, each with an id that says where the reader is in all of the runs.

use super::control::{CloseReason, Control, heartbeat};
use super::outbox::{Item, Shape};
use super::session::{Start, SubscribeError, SubscribeOptions, Subscription, retry};
use crate::event::frame::Framing;
use crate::event::{EventId, RunId, Timestamp, many_cursor};
use crate::hub::Hub;
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes put together before they are handed over.
const PIECE: usize = 16 << 10;

/// A stream of several runs. Dropping it ends it.
pub struct ManySubscription {
    framing: Framing,
    runs: Vec<RunId>,
    positions: Vec<EventId>,
    /// None for a run that has nothing more to come.
    streams: Vec<Option<Subscription>>,
    /// Whose turn it is.
    turn: usize,
    told_degraded: bool,
    ready: BytesMut,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

impl Hub {
    /// Opens a stream of these runs, which must be sorted and each there once, from these positions or all
    /// from `options.start`. It ends when every run has.
    pub async fn subscribe_many(
        &self,
        runs: Vec<RunId>,
        positions: Option<Vec<EventId>>,
        options: &SubscribeOptions,
        framing: Framing,
    ) -> Result<ManySubscription, SubscribeError> {
        let start = |index: usize| match &positions {
            Some(positions) => Start::After(positions[index]),
            None => options.start,
        };
        let opened = runs.iter().enumerate().map(|(index, run)| {
            let options =
                SubscribeOptions { start: start(index), shape: Shape::Items, ..options.clone() };
            self.subscribe(run, options)
        });
        let opened = join_all(opened).await;
        // Runs that have ended or expired hold up none of the others.
        let over =
            |e: &SubscribeError| matches!(e, SubscribeError::Finished | SubscribeError::Expired);
        if let Some(Err(error)) =
            opened.iter().find(|stream| stream.as_ref().is_err_and(|error| !over(error)))
        {
            return Err(error.clone());
        }
        if opened.iter().all(Result::is_err) {
            let expired = opened.iter().all(|s| matches!(s, Err(SubscribeError::Expired)));
            return Err(if expired { SubscribeError::Expired } else { SubscribeError::Finished });
        }
        let streams: Vec<Option<Subscription>> = opened.into_iter().map(Result::ok).collect();
        let positions =
            streams.iter().enumerate().map(|(index, stream)| match (&positions, stream) {
                (_, Some(stream)) => stream.position(),
                (Some(positions), None) => positions[index],
                (None, None) => EventId::START,
            });
        let config = &self.config().subscribe;
        Ok(ManySubscription {
            framing,
            positions: positions.collect(),
            runs,
            streams,
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
        // The timer's own waking is asked for at the next call that finds nothing.
        Poll::Ready(Some(self.ready.split().freeze()))
    }

    /// Takes what the runs have, an item of each in turn.
    fn gather(&mut self, cx: &Context<'_>) {
        let count = self.streams.len();
        let mut idle = 0;
        while idle < count && self.ready.len() < PIECE && !self.ended {
            let index = self.turn;
            self.turn = (index + 1) % count;
            let polled = self.streams[index].as_mut().map(|stream| stream.poll_next(cx));
            match polled {
                None | Some(Poll::Pending) => idle += 1,
                Some(Poll::Ready(None)) => self.over(index),
                Some(Poll::Ready(Some(item))) => {
                    idle = 0;
                    self.take(index, item);
                }
            }
        }
    }

    fn take(&mut self, index: usize, item: Item) {
        match item {
            Item::Event(event) => {
                self.positions[index] = event.id;
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
            Item::Control(control @ Control::Gap(_)) => {
                // It matters which of the runs has it.
                let (run, members) = (&self.runs[index], control.members());
                let frame = format!("event: gap\ndata: {{\"run_id\":\"{run}\",{members}}}\n\n");
                self.ready.extend_from_slice(frame.as_bytes());
            }
            Item::Control(Control::Close(CloseReason::RunFinished | CloseReason::RunDeleted)) => {
                self.over(index);
            }
            Item::Control(close @ Control::Close(_)) => {
                self.ready.extend_from_slice(&close.to_sse());
                self.ended = true;
            }
            // Streams of items have none.
            Item::Bytes(_) => {}
        }
    }

    /// A run has nothing more to come.
    fn over(&mut self, index: usize) {
        self.streams[index] = None;
        if self.streams.iter().all(Option::is_none) && !self.ended {
            let close = Control::Close(CloseReason::RunFinished);
            self.ready.extend_from_slice(&close.to_sse());
            self.ended = true;
        }
    }
}
