//! What a reader knows of the runs it reads for: where each stands, which of them may have something new,
//! and whose follower has room. Decides what is read next and what is handed over; talks to nobody.
//!
//! A position moves only with what was handed over. Whatever comes late, twice or out of turn is told by its
//! ids: what lies at or before a position is dropped, and what does not follow it directly is read.
//!
//! A stream that this process appends to changes by that, and reading it would only show what is known already.
//! So it is held while an append is under way, and rests for a while after one ([`Rests`]): then many such streams are
//! looked at together, for what others may have written.
//!
//! A stream that others keep writing to gets a lookout ([`lookout`]), and is not read meanwhile.

mod lookout;

pub(super) use lookout::Lookout;

use super::keys::StreamKey;
use super::rests::Rests;
use crate::event::{EventId, RunId, StoredEvent};
use crate::store::TailItem;
use lookout::Heat;
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
    /// Those that are worth a lookout, and have none.
    wanting: VecDeque<u64>,
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
    heat: Heat,
    /// It is among those that want a lookout.
    wants_lookout: bool,
    /// The number of the lookout that it has. It is not read meanwhile.
    lookout: Option<u64>,
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
            heat: Heat::default(),
            wants_lookout: false,
            lookout: None,
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
            if entry.wants_lookout {
                self.wanting.retain(|wanting| *wanting != number);
            }
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
            if entry.lookout.is_some() {
                continue;
            }
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

    /// Events that were read from a stream behind `after`; what is behind a follower's own position is for it. Not so
    /// for one that stands before it, for whom that was not read.
    /// `full` says that there may be more. True if any of them was new to anybody.
    pub(super) fn read(
        &mut self,
        name: &str,
        after: EventId,
        events: Vec<StoredEvent>,
        full: bool,
    ) -> bool {
        let mut new = false;
        self.hand_to(name, events, |entry, _, events| {
            if entry.position < after {
                return None;
            }
            entry.in_step = !full;
            let known = events.partition_point(|e| e.id <= entry.position);
            if known < events.len() {
                entry.in_a_row = 0;
                new = true;
            }
            Some(known)
        });
        if full {
            self.stream_changed(name.as_bytes());
        }
        new
    }

    /// An append to this stream begins.
    pub(super) fn append_begins(&mut self, name: &str) {
        let mut has_lookout = false;
        self.each(name, |entry| {
            entry.appends += 1;
            entry.heat = Heat::default();
            has_lookout |= entry.lookout.is_some();
        });
        if has_lookout {
            self.followers(name).into_iter().for_each(|number| self.call_back(number));
        }
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

    /// As [`queue`](Self::queue), and it rests no more, and has no lookout.
    fn queue_now(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            (entry.rests_until, entry.lookout) = (None, None);
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
mod tests;
