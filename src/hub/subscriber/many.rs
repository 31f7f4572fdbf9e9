//! Several runs on one stream. Each run has its own subscriber, with its own seam; here their events are
//! put one behind the other, each with an id that says where the reader is in all of the runs.

use super::control::{CloseReason, Control, heartbeat};
use super::outbox::{Item, Shape};
use super::session::{Start, SubscribeError, SubscribeOptions, Subscription, retry};
use crate::event::frame::Framing;
use crate::event::{EventId, RunId, Timestamp, many_cursor};
use crate::hub::Hub;
use crate::store::RunState;
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
    /// The runs of which nobody knew, when the stream was opened, where they stand.
    blind: Vec<bool>,
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
        let mut at = Vec::with_capacity(runs.len());
        for (index, stream) in streams.iter().enumerate() {
            at.push(match (&positions, stream) {
                // Where the reader says it was holds until an event says otherwise.
                (Some(positions), _) => positions[index],
                (None, Some(stream)) => stream.position(),
                // Of a run that has ended a reader of what is live has everything.
                (None, None) => match self.run(&runs[index]).await {
                    Ok(RunState::Known(info)) => info.last_id,
                    _ => EventId::START,
                },
            });
        }
        let is_blind = |stream: &Option<Subscription>| {
            positions.is_none() && stream.as_ref().is_some_and(Subscription::is_blind)
        };
        let blind = streams.iter().map(is_blind).collect();
        let config = &self.config().subscribe;
        Ok(ManySubscription {
            framing,
            positions: at,
            blind,
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
        // Whoever takes of one run waits for its turn at the others.
        self.streams.iter().flatten().for_each(Subscription::is_taking);
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
                Some(Poll::Ready(None)) => self.over(index, CloseReason::RunFinished),
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
                self.find_out();
                (self.positions[index], self.blind[index]) = (event.id, false);
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
            Item::Control(Control::Close(
                reason @ (CloseReason::RunFinished | CloseReason::RunDeleted),
            )) => self.over(index, reason),
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
        for (index, blind) in self.blind.iter_mut().enumerate().filter(|(_, blind)| **blind) {
            if let Some(stream) = self.streams[index].as_ref().filter(|s| !s.is_blind()) {
                (self.positions[index], *blind) = (stream.position(), false);
            }
        }
    }

    /// A run has nothing more to come.
    fn over(&mut self, index: usize, reason: CloseReason) {
        self.streams[index] = None;
        if self.streams.iter().all(Option::is_none) && !self.ended {
            let close = Control::Close(reason);
            self.ready.extend_from_slice(&close.to_sse());
            self.ended = true;
        }
    }
}
