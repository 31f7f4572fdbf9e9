//! What a subscriber has for its reader: a bounded queue of ready bytes between the SubscriberActor and
//! the response, and how far it has come. It outlives the actor, so that a replacement goes on exactly
//! where its predecessor stopped.

use super::control::{CloseReason, Control, heartbeat};
use super::session::{AtEnd, Cut, Start};
use super::shortcut::{ShortWay, Shortcut};
use crate::event::frame::Framing;
use crate::event::{EncodedBatch, EventId, EventType, Filter, Lifecycle, Sequence, Timestamp};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The most bytes handed over at a time.
const PIECE: usize = 16 << 10;

/// What a reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Ready bytes of Server-Sent Events, many events in one piece.
    Sse(Framing),
    /// Events and controls one by one, for whoever writes them in another way.
    Items,
}

/// One thing that a stream has for its reader.
#[derive(Debug, Clone)]
pub enum Item {
    /// Ready bytes.
    Bytes(Bytes),
    /// An event.
    Event(ReadyEvent),
    /// Something that is no event.
    Control(Control),
}

/// An event as its reader gets it.
#[derive(Debug, Clone)]
pub struct ReadyEvent {
    /// Its position.
    pub id: EventId,
    /// Its type.
    pub kind: EventType,
    /// The event of CONTRACT section 2, on one line.
    pub json: Bytes,
}

impl Default for Shape {
    fn default() -> Self {
        Self::Sse(Framing::default())
    }
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Event(event) => event.json.len() + 64,
            Self::Control(_) => 64,
        }
    }
}

/// The queue; see the module.
pub struct Outbox {
    filter: Filter,
    shape: Shape,
    /// Whether deltas that are stored are folded.
    folds: bool,
    at_end: AtEnd,
    cut: Cut,
    /// Bytes from which on it is full. One batch may stand over.
    limit: usize,
    /// Whether its reader is near the run.
    near: AtomicBool,
    state: Mutex<State>,
}

struct State {
    chunks: VecDeque<Item>,
    bytes: usize,
    progress: Progress,
    wants_room: bool,
    /// Whether the reader was told last that the store is away.
    told_degraded: bool,
    closed: bool,
    orphaned: bool,
    waker: Option<Waker>,
    short_way: ShortWay,
    last_push: Instant,
    /// The last two bytes that were taken; they tell whether a frame is half taken.
    taken: Vec<u8>,
    /// Since when there is something that the reader does not take.
    untaken_since: Option<Instant>,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Up to where the reader was when the stream began.
    pub(super) began: EventId,
    /// Up to where events were put in.
    pub(super) cursor: EventId,
    pub(super) sequence: Option<Sequence>,
    pub(super) ended: bool,
    /// What the reader asked for, as long as the store could not be asked how the run stands.
    pub(super) blind: Option<Start>,
}

/// What the reader's side finds.
#[derive(Debug)]
pub struct Pulled {
    /// The next item; none for the end of the stream.
    pub item: Option<Item>,
    /// Whether the subscriber waits to be told that there is room now.
    pub tell_of_room: bool,
}

impl Outbox {
    pub(super) fn new(
        filter: Filter,
        shape: Shape,
        folds: bool,
        limit: usize,
        progress: Progress,
    ) -> Self {
        let state = State {
            chunks: VecDeque::new(),
            bytes: 0,
            progress,
            wants_room: false,
            told_degraded: false,
            closed: false,
            orphaned: false,
            waker: None,
            short_way: ShortWay::default(),
            last_push: Instant::now(),
            taken: Vec::new(),
            untaken_since: None,
        };
        let (limit, at_end, cut) = (limit.max(1), AtEnd::Close, Cut::default());
        let near = AtomicBool::new(false);
        Self { filter, shape, folds, at_end, cut, limit, near, state: Mutex::new(state) }
    }

    /// The same for a stream that does this at the end of its run.
    pub(super) fn with_end(self, at_end: AtEnd, cut: Cut) -> Self {
        Self { at_end, cut, ..self }
    }

    /// What its stream does at the end of its run.
    pub(super) fn at_end(&self) -> AtEnd {
        self.at_end
    }

    /// Whether its stream is cut.
    pub(super) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Notes whether its reader is near the run.
    pub(super) fn set_near(&self, near: bool) {
        self.near.store(near, Ordering::Relaxed);
    }

    /// Puts the wanted events of a batch behind a position in, and moves on past the batch.
    pub(super) fn push_batch(&self, batch: &EncodedBatch, position: EventId) {
        let mut state = self.state.lock();
        // A slice keeps its whole batch in memory; of a few events in a large batch, a copy is less.
        let kept = |bytes: Bytes| match bytes.len() < batch.size() / 4 {
            true => Bytes::copy_from_slice(&bytes),
            false => bytes,
        };
        match self.shape {
            Shape::Sse(framing) => {
                batch.frames_after(position, &self.filter, framing, |bytes| {
                    state.push(Item::Bytes(kept(bytes)));
                });
            }
            Shape::Items => {
                for event in batch.after(position).iter().filter(|e| e.is_wanted(&self.filter)) {
                    let (id, kind, json) = (event.id, event.kind.clone(), kept(batch.json(event)));
                    state.push(Item::Event(ReadyEvent { id, kind, json }));
                }
            }
        }
        let progress = &mut state.progress;
        if batch.last > progress.cursor {
            progress.sequence = batch.events().last().map_or(progress.sequence, |e| e.sequence);
            progress.cursor = batch.last;
        }
        if let Some(lifecycle) = batch.lifecycle_after(position) {
            progress.ended = matches!(lifecycle, Lifecycle::Ended(_));
        }
        state.hand_over();
    }

    /// The filter, if deltas that are stored are folded.
    pub(super) fn folds(&self) -> Option<&Filter> {
        self.folds.then_some(&self.filter)
    }

    /// Puts a control frame in.
    pub(super) fn push_control(&self, control: Control) {
        self.push(self.shaped(control));
    }

    fn shaped(&self, control: Control) -> Item {
        match self.shape {
            Shape::Sse(_) => Item::Bytes(control.to_sse()),
            Shape::Items => Item::Control(control),
        }
    }

    /// Notes the mode; true if the reader was told otherwise.
    pub(super) fn learn_mode(&self, degraded: bool) -> bool {
        let told = &mut self.state.lock().told_degraded;
        std::mem::replace(told, degraded) != degraded
    }

    /// Puts an item in.
    pub(super) fn push(&self, item: Item) {
        let mut state = self.state.lock();
        state.push(item);
        state.hand_over();
    }

    /// The last frame: the reader gets what is queued, then this, then the end. A reader that is cut for
    /// taking nothing gets only this.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if reason == CloseReason::SlowClient {
            state.drop_whole_frames();
        }
        state.push(self.shaped(Control::Close(reason)));
        state.closed = true;
        state.wake();
    }

    /// The stream is now at a position, with nothing delivered before.
    pub(super) fn restart(&self, cursor: EventId, ended: bool) {
        let (began, sequence, blind) = (cursor, None, None);
        self.state.lock().progress = Progress { began, cursor, sequence, ended, blind };
    }

    /// Whether the reader has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().chunks.is_empty()
    }

    pub(super) fn progress(&self) -> Progress {
        self.state.lock().progress
    }

    pub(super) fn is_full(&self) -> bool {
        self.state.lock().bytes >= self.limit
    }

    /// Asks to be told of room. False if there is room now.
    pub(super) fn ask_for_room(&self) -> bool {
        let mut state = self.state.lock();
        state.wants_room = state.bytes > self.limit / 2;
        state.wants_room
    }

    /// The reader is taking something, if not of this.
    pub(super) fn is_taking(&self) {
        let mut state = self.state.lock();
        if state.untaken_since.is_some() {
            state.untaken_since = Some(Instant::now());
        }
    }

    /// Whether there has been something for this long that the reader does not take.
    pub(super) fn has_stalled(&self, now: Instant, limit: Duration) -> bool {
        let since = self.state.lock().untaken_since;
        since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }

    /// Puts a heartbeat in if there was silence for `every`, and says when to look again. Whoever takes items
    /// sees to that itself.
    pub(super) fn heartbeat(&self, now: Instant, every: Duration) -> Duration {
        let mut state = self.state.lock();
        let silence = now.saturating_duration_since(state.last_push);
        if !state.chunks.is_empty() || self.shape == Shape::Items {
            return every;
        }
        if silence < every {
            return every.saturating_sub(silence);
        }
        state.push(Item::Bytes(heartbeat(Timestamp::now())));
        state.hand_over();
        every
    }

    /// The actor died; whoever reads is to start another.
    pub(super) fn orphan(&self) {
        let mut state = self.state.lock();
        state.orphaned = true;
        state.wake();
    }

    pub(super) fn take_orphaned(&self) -> bool {
        std::mem::take(&mut self.state.lock().orphaned)
    }

    /// The reader's side has written everything and rests: what comes may go the short way, if the reader is near its
    /// run. False if there is something to take.
    pub(super) fn rest(&self, shortcut: impl FnOnce() -> Box<dyn Shortcut>) -> bool {
        if !self.near.load(Ordering::Relaxed) || self.shape == Shape::Items {
            return true;
        }
        let mut state = self.state.lock();
        let rests = state.chunks.is_empty() && !state.closed && !state.orphaned;
        if rests {
            state.short_way.open(shortcut());
        }
        rests
    }

    /// The reader's side rests no more. What it has to write first.
    pub(super) fn wake_up(&self) -> Option<Bytes> {
        self.state.lock().short_way.close()
    }

    /// The reader's side: the next item.
    pub(super) fn poll_pull(&self, cx: &Context<'_>) -> Poll<Pulled> {
        let mut state = self.state.lock();
        match state.chunks.pop_front() {
            Some(chunk) => {
                state.bytes -= chunk.len();
                state.note_taken(&chunk);
                state.untaken_since = (!state.chunks.is_empty()).then(Instant::now);
                let tell_of_room = state.wants_room && state.bytes <= self.limit / 2;
                state.wants_room &= !tell_of_room;
                Poll::Ready(Pulled { item: Some(chunk), tell_of_room })
            }
            None if state.closed => Poll::Ready(Pulled { item: None, tell_of_room: false }),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    /// Drops what is queued, but for the rest of a frame that is half taken: it has to end.
    fn drop_whole_frames(&mut self) {
        let queued: Vec<Item> = self.chunks.drain(..).collect();
        self.bytes = 0;
        if self.taken.is_empty() || self.taken == b"\n\n" {
            return;
        }
        let mut rest = self.taken.clone();
        let known = rest.len();
        for item in &queued {
            if let Item::Bytes(bytes) = item {
                rest.extend_from_slice(bytes);
            }
        }
        let end = rest.windows(2).skip(known.saturating_sub(1)).position(|w| w == b"\n\n");
        let end = end.map_or(rest.len(), |at| at + known.saturating_sub(1) + 2);
        let rest: Vec<u8> = rest.split_off(known).into_iter().take(end - known).collect();
        self.push(Item::Bytes(rest.into()));
    }

    fn push(&mut self, item: Item) {
        // An empty chunk would end a chunked response.
        if self.closed || item.len() == 0 {
            return;
        }
        self.last_push = Instant::now();
        self.untaken_since.get_or_insert(self.last_push);
        self.bytes += item.len();
        match item {
            Item::Bytes(mut rest) => {
                // In small pieces, so that each that is taken shows that the reader is slow, not gone.
                while rest.len() > PIECE {
                    self.chunks.push_back(Item::Bytes(rest.split_to(PIECE)));
                }
                self.chunks.push_back(Item::Bytes(rest));
            }
            other => self.chunks.push_back(other),
        }
    }

    fn note_taken(&mut self, item: &Item) {
        if let Item::Bytes(bytes) = item {
            self.taken.extend_from_slice(&bytes[bytes.len().saturating_sub(2)..]);
            let surplus = self.taken.len().saturating_sub(2);
            self.taken.drain(..surplus);
        }
    }

    /// Brings what is queued to the reader the short way, or else wakes the reader's side.
    fn hand_over(&mut self) {
        if !(self.short_way.is_open() && self.goes_the_short_way()) {
            self.wake();
        }
    }

    /// Whether the reader has all that was queued. Else its side has something to do. Apart from the rest, as most
    /// outboxes have no such way and are many.
    #[inline(never)]
    fn goes_the_short_way(&mut self) -> bool {
        let mut pieces = self.chunks.iter().filter_map(|item| match item {
            Item::Bytes(bytes) => Some(bytes),
            Item::Event(_) | Item::Control(_) => None,
        });
        if !self.short_way.send(self.bytes, &mut pieces) {
            return false;
        }
        while let Some(item) = self.chunks.pop_front() {
            self.note_taken(&item);
        }
        self.bytes = 0;
        self.untaken_since = None;
        self.short_way.is_open()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader gets that takes `pieces` pieces of two large frames and is then cut.
    fn cut_after(pieces: usize) -> String {
        let progress = Progress::default();
        let outbox =
            Outbox::new(Filter::default(), Shape::Sse(Framing::Typed), false, 1 << 20, progress);
        let frame = |c: &str, size| format!("data: {}\n\n", c.repeat(size));
        // The first frame's two line breaks fall into different pieces.
        let frames = frame("a", 2 * PIECE - 7) + &frame("b", 3 * PIECE);
        outbox.push(Item::Bytes(frames.into()));
        let cx = Context::from_waker(Waker::noop());
        let mut got = Vec::new();
        for taken in 0.. {
            if taken == pieces {
                outbox.close(CloseReason::SlowClient);
            }
            match outbox.poll_pull(&cx) {
                Poll::Ready(Pulled { item: Some(Item::Bytes(bytes)), .. }) => {
                    got.extend_from_slice(&bytes);
                }
                _ => break,
            }
        }
        String::from_utf8(got).unwrap()
    }

    #[test]
    fn a_reader_that_is_cut_gets_no_half_frame() {
        let close = "event: close\ndata: {\"reason\":\"slow_client\"}";
        for (pieces, frames) in [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)] {
            let got = cut_after(pieces);
            let parts: Vec<&str> = got.split_terminator("\n\n").collect();
            assert_eq!((parts.len(), parts.last()), (frames + 1, Some(&close)), "{pieces}");
            let sizes: Vec<usize> = parts.iter().take(frames).map(|f| f.len()).collect();
            assert_eq!(sizes, [2 * PIECE - 1, 3 * PIECE + 6][..frames]);
        }
    }
}
