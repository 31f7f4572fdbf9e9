//! What a reader knows of the runs it reads for: where each stands, which of them may have something new,
//! and whose follower has room. Decides what is read next and what is handed over; talks to nobody.
//!
//! A position moves only with what was handed over. Whatever comes late, twice or out of turn is told by its
//! ids: what lies at or before a position is dropped, and what does not follow it directly is read.
//!
//! A stream that this process appends to changes by that, and reading it would only show what is known already.
//! So it is held while an append is under way, and rests for a while after one ([`Rests`]): then many such streams are
//! looked at together, for what others may have written.

use super::keys::StreamKey;
use super::rests::Rests;
use crate::event::{EventId, RunId, StoredEvent};
use crate::store::TailItem;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Batches that may wait for a follower.
pub(super) const ROOM: usize = 8;

/// The runs of a reader.
#[derive(Default)]
pub(super) struct Roster {
    next: u64,
    entries: HashMap<u64, Entry>,
    /// Who follows the stream of this name.
    by_name: HashMap<String, Vec<u64>>,
    /// Those that may have something to read, the one that waits longest first.
    changed: VecDeque<u64>,
    /// Those of them that rest.
    rests: Rests,
}

struct Entry {
    run: RunId,
    key: StreamKey,
    position: EventId,
    sink: mpsc::Sender<TailItem>,
    place: Place,
    /// Appends to it that are under way.
    appends: u32,
    /// It is where the last append left the stream, so that the next one will tell it what comes. Else it is
    /// read for whatever is under way: appends may follow each other without a pause.
    in_step: bool,
    /// It has changed during one.
    changed_meanwhile: bool,
    rests_until: Option<Instant>,
    /// Appends that it got from their answers since it last had to read.
    in_a_row: u32,
    /// Not read because its follower has no room.
    waits_for_room: bool,
    /// Not read because something else than a stream is kept under its key.
    broken: bool,
    /// Its stream may have been deleted or rolled back.
    doubtful: bool,
}

/// Where a follower stands that may have something to read.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Nowhere,
    Changed,
    /// Among those that rest, until then.
    Resting(Instant),
}

/// A stream to be read, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) run: RunId,
    pub(super) key: StreamKey,
    pub(super) after: EventId,
}

impl Roster {
    /// Adds a follower, which is to be read for.
    pub(super) fn join(
        &mut self,
        run: RunId,
        key: StreamKey,
        after: EventId,
        sink: mpsc::Sender<TailItem>,
    ) -> u64 {
        self.next += 1;
        let (number, name) = (self.next, key.name.clone());
        let entry = Entry {
            run,
            key,
            position: after,
            sink,
            place: Place::Nowhere,
            appends: 0,
            in_step: false,
            changed_meanwhile: false,
            rests_until: None,
            in_a_row: 0,
            waits_for_room: false,
            broken: false,
            doubtful: true,
        };
        self.entries.insert(number, entry);
        self.by_name.entry(name).or_default().push(number);
        self.queue(number);
        number
    }

    /// Removes a follower.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.unname(&entry.key.name, number);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A stream was written to, or is gone.
    pub(super) fn stream_changed(&mut self, name: &[u8]) {
        let name = std::str::from_utf8(name).unwrap_or_default();
        for number in self.followers(name) {
            self.queue(number);
        }
    }

    /// Anything may have happened to any stream.
    pub(super) fn all_changed(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.doubtful = true);
        let numbers: Vec<u64> = self.entries.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.queue_now(number));
    }

    /// Nothing new was found in a stream, though it may have changed: it may have been deleted.
    pub(super) fn read_nothing(&mut self, name: &str) {
        self.each(name, |entry| (entry.doubtful, entry.in_step) = (true, true));
    }

    /// A follower has taken something. True if it was left out for want of room.
    pub(super) fn has_room(&mut self, number: u64) -> bool {
        let entry = self.entries.get_mut(&number);
        let waited = entry.is_some_and(|e| std::mem::take(&mut e.waits_for_room));
        if waited {
            self.must_read(number);
        }
        waited
    }

    /// When something that rests is to be read.
    pub(super) fn next_rested(&self) -> Option<Instant> {
        self.rests.next()
    }

    /// The streams to read now, so many at most, which are taken for read.
    pub(super) fn next_read(&mut self, most: usize, now: Instant) -> Vec<Wanted> {
        let mut read: Vec<Wanted> = Vec::new();
        while let Some(number) = self.rests.take(now) {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.place = Place::Changed;
                self.changed.push_back(number);
            }
        }
        while read.len() < most {
            let Some(number) = self.changed.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            if entry.sink.is_closed() {
                self.leave(number);
                continue;
            }
            if let Some(until) = entry.rests_until.take_if(|until| *until > now) {
                entry.place = Place::Resting(until);
                self.rests.put(until, number);
                continue;
            }
            entry.place = Place::Nowhere;
            if entry.appends > 0 && entry.in_step {
                entry.changed_meanwhile = true;
                continue;
            }
            // Room for one batch and one notice.
            entry.waits_for_room = entry.sink.capacity() < 2;
            if entry.waits_for_room || entry.broken {
                continue;
            }
            let (run, key, after) = (entry.run.clone(), entry.key.clone(), entry.position);
            // Of two followers of one stream the one further back is read for; both take what is theirs.
            match read.iter_mut().find(|wanted| wanted.key == key) {
                Some(wanted) => wanted.after = wanted.after.min(after),
                None => read.push(Wanted { run, key, after }),
            }
        }
        read
    }

    /// Events that were read from a stream behind some position; what is behind a follower's own is for it.
    /// `full` says that there may be more.
    pub(super) fn read(&mut self, name: &str, events: Vec<StoredEvent>, full: bool) {
        self.hand_to(name, events, |entry, _, events| {
            entry.in_step = !full;
            let known = events.partition_point(|e| e.id <= entry.position);
            if known < events.len() {
                entry.in_a_row = 0;
            }
            Some(known)
        });
        if full {
            self.stream_changed(name.as_bytes());
        }
    }

    /// An append to this stream begins.
    pub(super) fn append_begins(&mut self, name: &str) {
        self.each(name, |entry| entry.appends += 1);
    }

    /// An append to this stream has ended, or nobody waits for its end any more. True if it is to be read.
    pub(super) fn append_ended(&mut self, name: &str) -> bool {
        let mut changed = false;
        for number in self.followers(name) {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            // It may have come during the append.
            entry.appends = entry.appends.saturating_sub(1);
            if entry.appends == 0 && std::mem::take(&mut entry.changed_meanwhile) {
                self.queue(number);
                changed = true;
            }
        }
        changed
    }

    /// Whether events of this stream that directly follow `previous` have a follower here that stands right
    /// there.
    pub(super) fn awaits(&self, name: &str, previous: EventId) -> bool {
        let numbers = self.by_name.get(name).into_iter().flatten();
        numbers.filter_map(|n| self.entries.get(n)).any(|e| e.takes_behind(previous))
    }

    /// Events that were just stored directly behind `previous`: whoever stands right there need not read
    /// them.
    pub(super) fn stored(
        &mut self,
        name: &str,
        previous: EventId,
        events: Vec<StoredEvent>,
        now: Instant,
    ) {
        self.hand_to(name, events, |entry, rests, _| {
            let takes = entry.takes_behind(previous);
            entry.in_a_row = entry.in_a_row.saturating_add(u32::from(takes));
            entry.rests_until = takes.then(|| rests.until(entry.in_a_row, now));
            entry.in_step = takes;
            takes.then_some(0)
        });
    }

    /// Something was stored in this stream that its followers must read. False if it has none.
    pub(super) fn stored_elsewhere(&mut self, name: &str) -> bool {
        self.each(name, |entry| entry.doubtful = true);
        let numbers = self.followers(name);
        numbers.iter().for_each(|number| self.must_read(*number));
        !numbers.is_empty()
    }

    /// Hands events to the followers of a stream, each from the index on that `from` says.
    fn hand_to(
        &mut self,
        name: &str,
        mut events: Vec<StoredEvent>,
        mut from: impl FnMut(&mut Entry, &mut Rests, &[StoredEvent]) -> Option<usize>,
    ) {
        let numbers = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        for (place, number) in numbers.iter().enumerate() {
            let Some(entry) = self.entries.get_mut(number) else { continue };
            let start = from(entry, &mut self.rests, &events);
            let Some(start) = start.filter(|start| *start < events.len()) else { continue };
            // There is hardly ever more than one, who gets them as they are.
            if place + 1 == numbers.len() {
                events.drain(..start);
                entry.hand_over(std::mem::take(&mut events));
            } else {
                entry.hand_over(events[start..].to_vec());
            }
        }
    }

    /// The streams to be compared with their followers' positions: those in doubt, or all. What was found
    /// broken is to be read again.
    pub(super) fn take_doubtful(&mut self, all: bool) -> Vec<(u64, Wanted)> {
        let (mut compared, mut broken) = (Vec::new(), Vec::new());
        for (number, entry) in &mut self.entries {
            if std::mem::take(&mut entry.broken) {
                broken.push(*number);
            }
            if std::mem::take(&mut entry.doubtful) || all {
                let (run, key) = (entry.run.clone(), entry.key.clone());
                compared.push((*number, Wanted { run, key, after: entry.position }));
            }
        }
        broken.into_iter().for_each(|number| self.queue(number));
        compared
    }

    /// How far the stream goes that a follower stood in at `seen`; it may have moved on.
    pub(super) fn head(&mut self, number: u64, seen: EventId, head: EventId) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.position != seen || head == seen {
            return;
        }
        if head < seen {
            if entry.sink.try_send(TailItem::Reset).is_err() {
                entry.doubtful = true;
                return;
            }
            entry.position = EventId::START;
        }
        self.must_read(number);
    }

    /// The run has this stream now. If it is another one, it is followed from its beginning: the position
    /// was one in the stream before.
    pub(super) fn follows(&mut self, number: u64, key: StreamKey) {
        let Some(entry) = self.entries.get_mut(&number).filter(|e| e.key != key) else { return };
        let begun = entry.position != EventId::START;
        if begun && entry.sink.try_send(TailItem::Reset).is_err() {
            return;
        }
        entry.position = EventId::START;
        // Appends to the stream before are none to this one.
        (entry.appends, entry.changed_meanwhile) = (0, false);
        let name = key.name.clone();
        let before = std::mem::replace(&mut entry.key, key);
        self.unname(&before.name, number);
        self.by_name.entry(name).or_default().push(number);
        self.must_read(number);
    }

    /// Something else than a stream is kept under this key.
    pub(super) fn is_broken(&mut self, name: &str) {
        self.each(name, |entry| entry.broken = true);
    }

    /// Who follows the stream of this name.
    fn followers(&self, name: &str) -> Vec<u64> {
        self.by_name.get(name).cloned().unwrap_or_default()
    }

    /// Does something to all who follow the stream of this name.
    fn each(&mut self, name: &str, mut act: impl FnMut(&mut Entry)) {
        for number in self.by_name.get(name).into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(number) {
                act(entry);
            }
        }
    }

    /// Reads for it, whatever is under way: it may have missed something.
    fn must_read(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            (entry.in_step, entry.in_a_row) = (false, 0);
        }
        self.queue_now(number);
    }

    /// As [`queue`](Self::queue), and it rests no more.
    fn queue_now(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.rests_until = None;
            if let Place::Resting(until) = entry.place {
                self.rests.remove(until, number);
                entry.place = Place::Nowhere;
            }
        }
        self.queue(number);
    }

    fn queue(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.place == Place::Nowhere
        {
            entry.place = Place::Changed;
            self.changed.push_back(number);
        }
    }

    fn unname(&mut self, name: &str, number: u64) {
        if let Some(numbers) = self.by_name.get_mut(name) {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}

impl Entry {
    fn takes_behind(&self, previous: EventId) -> bool {
        self.position == previous && self.sink.capacity() >= 2
    }

    fn hand_over(&mut self, events: Vec<StoredEvent>) {
        let Some(last) = events.last().map(|e| e.id) else { return };
        match self.sink.try_send(TailItem::Events(events)) {
            Ok(()) => self.position = last,
            Err(_) => (self.waits_for_room, self.in_step) = (true, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::decode_entry;
    use proptest::prelude::*;
    use std::time::Duration;

    fn run() -> RunId {
        RunId::parse("7").unwrap()
    }

    fn key() -> StreamKey {
        StreamKey { name: "run:7:events".to_owned(), is_jobs: false }
    }

    fn at(n: u64) -> EventId {
        if n == 0 { EventId::START } else { EventId::new(n, 0) }
    }

    fn events(range: std::ops::RangeInclusive<u64>) -> Vec<StoredEvent> {
        range.map(|n| decode_entry(&run(), at(n), [])).collect()
    }

    /// When nothing rests any more.
    fn later() -> Instant {
        Instant::now() + Rests::LONGEST
    }

    fn taken(inbox: &mut mpsc::Receiver<TailItem>) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Ok(TailItem::Events(events)) = inbox.try_recv() {
            ids.extend(events.iter().map(|e| e.id.ms));
        }
        ids
    }

    /// A follower for whom all there is, which is nothing, was read.
    fn followed() -> (Roster, mpsc::Receiver<TailItem>) {
        let (mut roster, (sink, inbox)) = (Roster::default(), mpsc::channel(ROOM));
        roster.join(run(), key(), at(0), sink);
        roster.next_read(64, later());
        (roster, inbox)
    }

    /// The `n`th event is an append that follows directly, of which the server tells: its stream rests.
    fn append(roster: &mut Roster, inbox: &mut mpsc::Receiver<TailItem>, n: u64, now: Instant) {
        roster.stored("run:7:events", at(n - 1), events(n..=n), now);
        assert_eq!(taken(inbox).pop(), Some(n));
        roster.stream_changed(b"run:7:events");
        assert!(roster.next_read(64, now).is_empty());
    }

    #[test]
    fn what_was_stored_behind_the_position_is_not_read_again() {
        let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
        roster.join(run(), key(), at(0), sink);
        assert_eq!(
            roster.next_read(64, later()),
            [Wanted { run: run(), key: key(), after: at(0) }]
        );
        roster.stored("run:7:events", at(0), events(1..=2), Instant::now());
        // The read that was under way.
        roster.read("run:7:events", events(1..=3), false);
        // Another program has written the fourth one.
        roster.stored("run:7:events", at(4), events(5..=5), Instant::now());
        assert_eq!(taken(&mut inbox), [1, 2, 3]);
        assert!(roster.next_read(64, later()).is_empty());
        roster.stream_changed(b"run:7:events");
        assert_eq!(roster.next_read(64, later())[0].after, at(3));
        roster.read("run:7:events", events(4..=5), true);
        assert_eq!((taken(&mut inbox), roster.next_read(64, later()).len()), (vec![4, 5], 1));
    }

    #[test]
    fn a_stream_that_is_appended_to_is_looked_at_when_that_is_over() {
        let (mut roster, _inbox) = followed();
        roster.read_nothing("run:7:events");
        roster.append_begins("run:7:events");
        roster.stream_changed(b"run:7:events");
        assert!(roster.next_read(64, later()).is_empty());
        let now = Instant::now();
        roster.stored("run:7:events", at(0), events(1..=1), now);
        assert!(roster.append_ended("run:7:events"));
        assert!(roster.next_read(64, now).is_empty());
        let rested = roster.next_rested().unwrap();
        assert_eq!(roster.next_read(64, rested)[0].after, at(1));
        // One that ends otherwise is no reason to wait.
        roster.append_begins("run:7:events");
        roster.stream_changed(b"run:7:events");
        assert!(roster.next_read(64, rested).is_empty() && roster.append_ended("run:7:events"));
        assert_eq!(roster.next_read(64, rested).len(), 1);
    }

    #[test]
    fn a_stream_that_nobody_else_writes_to_is_looked_at_less_often() {
        let ((mut roster, mut inbox), now) = (followed(), Instant::now());
        let mut rest_after = |roster: &mut Roster, n| {
            append(roster, &mut inbox, n, now);
            let rested = roster.next_rested().unwrap();
            assert_eq!(roster.next_read(64, rested)[0].after, at(n));
            rested - now
        };
        let first = rest_after(&mut roster, 1);
        let last = (2..=30).map(|n| rest_after(&mut roster, n)).last().unwrap();
        assert!(first * 10 < last && last <= Rests::LONGEST, "{first:?} {last:?}");
        // Another program has.
        roster.read("run:7:events", events(31..=31), false);
        assert_eq!(rest_after(&mut roster, 32), first);
    }

    #[test]
    fn what_an_append_tells_of_is_read_though_the_stream_rests() {
        let ((mut roster, mut inbox), now) = (followed(), Instant::now());
        for n in 1..=30 {
            append(&mut roster, &mut inbox, n, now);
        }
        // Another program has written the next one.
        assert!(!roster.awaits("run:7:events", at(31)));
        roster.stored_elsewhere("run:7:events");
        assert_eq!(roster.next_read(64, now)[0].after, at(30));
        roster.read("run:7:events", events(31..=32), false);
        assert_eq!(taken(&mut inbox), [31, 32]);
        assert_eq!((roster.next_read(64, later()), roster.next_rested()), (vec![], None));
        // Nor does it rest when anything may have happened.
        append(&mut roster, &mut inbox, 33, now);
        roster.all_changed();
        assert_eq!(roster.next_read(64, now)[0].after, at(33));
    }

    #[test]
    fn appends_without_a_pause_starve_nobody_who_is_out_of_step() {
        let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
        roster.append_begins("run:7:events");
        roster.join(run(), key(), at(0), sink);
        roster.append_begins("run:7:events");
        assert_eq!(roster.next_read(64, later())[0].after, at(0));
        roster.read("run:7:events", events(1..=1), false);
        roster.append_ended("run:7:events");
        // Another program has written the second one.
        for n in [3, 5, 7] {
            roster.append_begins("run:7:events");
            assert!(!roster.awaits("run:7:events", at(n - 1)));
            roster.stored_elsewhere("run:7:events");
            roster.append_ended("run:7:events");
            roster.append_begins("run:7:events");
            assert_eq!(roster.next_read(64, Instant::now())[0].after, at(n - 2));
            roster.read("run:7:events", events(n - 1..=n), false);
            roster.append_ended("run:7:events");
        }
        assert_eq!(taken(&mut inbox), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_follower_without_room_is_read_for_when_it_has_some() {
        let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(2));
        let number = roster.join(run(), key(), at(0), sink);
        roster.stored("run:7:events", at(0), events(1..=1), Instant::now());
        assert!(!roster.awaits("run:7:events", at(1)));
        assert!(roster.next_read(64, later()).is_empty());
        assert_eq!(taken(&mut inbox), [1]);
        assert!(roster.has_room(number) && !roster.has_room(number));
        assert_eq!(roster.next_read(64, later()).len(), 1);
    }

    #[test]
    fn a_head_before_the_position_resets_and_one_behind_it_is_read() {
        let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
        let number = roster.join(run(), key(), at(5), sink);
        roster.next_read(64, later());
        roster.head(number, at(5), at(5));
        assert!(roster.next_read(64, later()).is_empty());
        roster.head(number, at(5), at(6));
        assert_eq!(roster.next_read(64, later())[0].after, at(5));
        roster.head(number, at(4), at(3));
        assert!(inbox.try_recv().is_err());
        roster.head(number, at(5), at(3));
        assert!(matches!(inbox.try_recv(), Ok(TailItem::Reset)));
        assert_eq!(roster.next_read(64, later())[0].after, at(0));
    }

    /// What happens to a stream and its reader, in any order.
    #[derive(Debug, Clone)]
    enum Step {
        /// The hub appends, and hears of it later.
        Append(u8),
        /// Another program appends.
        Foreign(u8),
        /// The oldest answer to an append arrives.
        Answer,
        /// The server's word that the stream has changed arrives.
        Notice,
        /// A read is sent.
        Send,
        /// The answer to it arrives.
        Reply,
        /// The follower takes what there is.
        Take,
        /// So many milliseconds pass.
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u8..4).prop_map(Step::Append),
            (1_u8..4).prop_map(Step::Foreign),
            Just(Step::Answer),
            Just(Step::Notice),
            Just(Step::Send),
            Just(Step::Reply),
            Just(Step::Take),
            (1_u64..150).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn whatever_crosses_all_events_come_once_and_in_order(
            steps in proptest::collection::vec(step(), 0..60)
        ) {
            let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(3));
            let number = roster.join(run(), key(), at(0), sink);
            let (mut log, mut got) = (0_u64, Vec::new());
            let mut answers = VecDeque::new();
            // Read by the server at that length; the answer is on its way.
            let mut reading: Option<(EventId, u64)> = None;
            let (mut registered, mut notice) = (false, false);
            let mut clock = Instant::now();
            let last = [
                Step::Answer, Step::Notice, Step::Reply, Step::Take, Step::Wait(150), Step::Send, Step::Reply, Step::Take,
            ];
            let settle = std::iter::repeat_n(last, 60).flatten();
            for step in steps.into_iter().chain(settle) {
                match step {
                    Step::Append(n) | Step::Foreign(n) => {
                        let before = log;
                        log += u64::from(n);
                        // The server tells once of a stream that was read.
                        notice |= std::mem::take(&mut registered);
                        if matches!(step, Step::Append(_)) {
                            roster.append_begins("run:7:events");
                            answers.push_back((before, log));
                        }
                    }
                    Step::Answer => if let Some((before, last)) = answers.pop_front() {
                        let events = events(before + 1..=last);
                        if roster.awaits("run:7:events", at(before)) {
                            roster.stored("run:7:events", at(before), events, clock);
                        } else {
                            roster.stored_elsewhere("run:7:events");
                        }
                        roster.append_ended("run:7:events");
                    },
                    Step::Notice => if std::mem::take(&mut notice) {
                        roster.stream_changed(b"run:7:events");
                    },
                    Step::Send => if reading.is_none()
                        && let Some(wanted) = roster.next_read(64, clock).pop()
                    {
                        registered = true;
                        reading = Some((wanted.after, log));
                    },
                    Step::Reply => if let Some((after, length)) = reading.take() {
                        let until = length.min(after.ms + 4);
                        roster.read("run:7:events", events(after.ms + 1..=until), until < length);
                    },
                    Step::Take => {
                        got.extend(taken(&mut inbox));
                        roster.has_room(number);
                    }
                    Step::Wait(ms) => clock += Duration::from_millis(ms),
                }
            }
            prop_assert_eq!(got, (1..=log).collect::<Vec<_>>());
        }
    }
}
