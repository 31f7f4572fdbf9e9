//! The book of one run, kept by the stores that have no server behind them: counters, status, times and
//! expiry. Pure: the stores keep the events and say what time it is.

use super::key_window::{Found, KeyWindow};
use super::{Placed, Publish, PublishOutcome, RunAppend, RunInfo, RunState, StoreRules, as_ms};
use crate::event::{EventId, Lifecycle, NewEvent, RunStatus, Sequence};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The counters and times of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The run's number in its store; a run that is deleted and comes back has another.
    pub(super) number: u64,
    #[serde(with = "status_word")]
    status: RunStatus,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
    ended_ms: Option<u64>,
    expires_ms: Option<u64>,
    /// Last id given, as ms and counter.
    last: (u64, u64),
    last_sequence: u64,
    /// Sequence of the oldest event kept; one more than the last where none is.
    pub(super) first_sequence: u64,
    /// Id of the oldest event kept, as ms and counter; of none where none is.
    first: (u64, u64),
    /// The last few writers, each with the greatest of its numbers that was applied; the latest last.
    #[serde(default)]
    writers: Vec<(u64, u64)>,
    /// Writers with numbers below those that were not applied, because they were refused: should nobody have heard
    /// of that, they come again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused: Vec<(u64, u64)>,
}

/// Writers remembered. A hub that starts sends again what the one before it left in the spool, before it
/// writes anything of its own to that run: two would do.
const WRITERS: usize = 4;

mod status_word {
    use crate::event::RunStatus;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: Serializer>(status: &RunStatus, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(status.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RunStatus, D::Error> {
        let word = String::deserialize(d)?;
        RunStatus::parse(&word).ok_or_else(|| D::Error::custom("unknown status"))
    }
}

impl Ledger {
    /// The book of a run that begins now.
    pub(super) fn new(number: u64, now_ms: u64) -> Self {
        Self {
            number,
            status: RunStatus::Running,
            created_ms: now_ms,
            updated_ms: now_ms,
            ended_ms: None,
            expires_ms: None,
            last: (0, 0),
            last_sequence: 0,
            first_sequence: 1,
            first: (0, 0),
            writers: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub(super) fn last_id(&self) -> EventId {
        EventId::new(self.last.0, self.last.1)
    }

    pub(super) fn length(&self) -> u64 {
        (self.last_sequence + 1).saturating_sub(self.first_sequence)
    }

    /// Whether no event was ever given a place.
    pub(super) fn is_blank(&self) -> bool {
        self.last_sequence == 0
    }

    /// The oldest event kept is now this one.
    pub(super) fn trimmed_to(&mut self, first: EventId, sequence: Sequence) {
        self.first = (first.ms, first.n);
        self.first_sequence = sequence.0;
    }

    /// No event is kept any more.
    pub(super) fn emptied(&mut self) {
        self.first = (0, 0);
        self.first_sequence = self.last_sequence + 1;
    }

    pub(super) fn first_id(&self) -> EventId {
        EventId::new(self.first.0, self.first.1)
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    /// Whether even the memory of the run is to go.
    pub(super) fn is_forgotten(&self, now_ms: u64, rules: &StoreRules) -> bool {
        let until = |at: u64| at.saturating_add(as_ms(rules.tombstone));
        self.expires_ms.is_some_and(|at| until(at) <= now_ms)
    }

    pub(super) fn expire_at(&mut self, at_ms: u64) {
        self.expires_ms = Some(at_ms);
    }

    /// Whether the writer's publish of this number was applied before.
    fn has_applied(&self, writer: u64, number: u64) -> bool {
        self.applied(writer) >= number && !self.refused.contains(&(writer, number))
    }

    /// The greatest of the writer's numbers that was applied.
    fn applied(&self, writer: u64) -> u64 {
        let known = self.writers.iter().find(|(known, _)| *known == writer);
        known.map_or(0, |(_, applied)| *applied)
    }

    /// The writer's publish of this number is applied.
    fn apply(&mut self, writer: u64, number: u64) {
        let greatest = self.applied(writer).max(number);
        self.writers.retain(|(known, _)| *known != writer);
        self.writers.push((writer, greatest));
        if self.writers.len() > WRITERS {
            self.writers.remove(0);
        }
        self.refused.retain(|refused| *refused != (writer, number));
    }

    /// Forgets refusals that are of no use any more: a writer never goes back behind the first of its numbers here.
    fn forget_refusals(&mut self, writer: u64, first: u64) {
        let mut refused = std::mem::take(&mut self.refused);
        refused.retain(|(known, number)| {
            *number < self.applied(*known) && (*known != writer || *number >= first)
        });
        self.refused = refused;
    }

    /// Whether any of these publishes stores an event: only then a run begins, or begins anew.
    pub(super) fn would_store(
        &self,
        writer: u64,
        publishes: &[Publish],
        now_ms: u64,
        keys: &KeyWindow,
    ) -> bool {
        let is_new = |publish: &Publish, new: &NewEvent| {
            let around = keys.around(publish, now_ms);
            let found = || keys.find(self.number, new.key.as_str(), &around);
            !new.key_is_given || found().is_none()
        };
        publishes
            .iter()
            .filter(|publish| !self.has_applied(writer, publish.number))
            .filter(|publish| self.reused(publish, now_ms, keys).is_none())
            .any(|publish| publish.events.iter().any(|new| is_new(publish, new)))
    }

    /// The index of the first event whose `event_id` stands for other content, if there is one.
    fn reused(&self, publish: &Publish, now_ms: u64, keys: &KeyWindow) -> Option<usize> {
        let mut within: Vec<(&str, u64)> = Vec::new();
        if publish.answered {
            return None;
        }
        let around = keys.around(publish, now_ms);
        for (index, new) in publish.events.iter().enumerate().filter(|(_, new)| new.key_is_given) {
            let key = new.key.as_str();
            let earlier = within.iter().find(|(k, _)| *k == key).map(|(_, digest)| *digest);
            let found = || keys.find(self.number, key, &around);
            match earlier.or_else(|| found().map(|found| found.digest)) {
                Some(digest) if digest != new.digest => return Some(index),
                Some(_) => {}
                None => within.push((key, new.digest)),
            }
        }
        None
    }

    /// An expired run that gets an event lives again: one that had ended for another while, one that was
    /// running without an end.
    pub(super) fn revive(&mut self, now_ms: u64, rules: &StoreRules) {
        if self.has_expired(now_ms) {
            let again = now_ms.saturating_add(as_ms(rules.after_end));
            self.expires_ms = self.status.is_ended().then_some(again);
        }
    }

    /// Gives the events of a writer's publishes their places, or finds that one reuses an `event_id`, or that it was
    /// applied before. `stored` is called for each event that is new, with what its `event_id` stands for from now on
    /// and when that was published, if it is in the window.
    pub(super) fn place<'e>(
        &mut self,
        append: &'e RunAppend,
        now_ms: u64,
        rules: &StoreRules,
        keys: &mut KeyWindow,
        mut stored: impl FnMut(&'e NewEvent, Placed, Option<(u64, Found)>),
    ) -> Vec<PublishOutcome> {
        let writer = append.writer;
        let place = |publish: &'e Publish| {
            if self.has_applied(writer, publish.number) {
                return PublishOutcome::Already;
            }
            if let Some(index) = self.reused(publish, now_ms, keys) {
                if !self.refused.contains(&(writer, publish.number)) {
                    self.refused.push((writer, publish.number));
                }
                return PublishOutcome::KeyReused { index };
            }
            self.apply(writer, publish.number);
            self.place_one(publish, now_ms, rules, keys, &mut stored)
        };
        let outcomes = append.publishes.iter().map(place).collect();
        if !self.refused.is_empty() {
            self.forget_refusals(writer, append.publishes.first().map_or(0, |first| first.number));
        }
        outcomes
    }

    fn place_one<'e>(
        &mut self,
        publish: &'e Publish,
        now_ms: u64,
        rules: &StoreRules,
        keys: &mut KeyWindow,
        stored: &mut impl FnMut(&'e NewEvent, Placed, Option<(u64, Found)>),
    ) -> PublishOutcome {
        let (around, published_ms) =
            (keys.around(publish, now_ms), publish.published_ms.min(now_ms));
        let placed = publish.events.iter().map(|new| {
            let find = || keys.find(self.number, new.key.as_str(), &around);
            let known = new.key_is_given.then(find);
            if let Some(Found { id, sequence, digest }) = known.flatten() {
                return Placed { id, sequence, duplicate: true, reused: digest != new.digest };
            }
            let placed = self.next_place(now_ms);
            let found = Found { id: placed.id, sequence: placed.sequence, digest: new.digest };
            let mut insert = || keys.insert(self.number, new.key.as_str(), published_ms, found);
            let index = (new.key_is_given && insert()).then_some((published_ms, found));
            self.live(rules.lifecycle.of(&new.event.kind), now_ms, rules);
            stored(new, placed, index);
            placed
        });
        PublishOutcome::Stored(placed.collect())
    }

    fn next_place(&mut self, now_ms: u64) -> Placed {
        let last = self.last_id();
        let id = if now_ms > last.ms { EventId::new(now_ms, 0) } else { last.next() };
        if self.length() == 0 {
            self.first = (id.ms, id.n);
        }
        self.last = (id.ms, id.n);
        self.last_sequence += 1;
        self.updated_ms = now_ms;
        Placed::of_new(id, Sequence(self.last_sequence))
    }

    fn live(&mut self, lifecycle: Option<Lifecycle>, now_ms: u64, rules: &StoreRules) {
        let Some(lifecycle) = lifecycle else { return };
        self.status = lifecycle.status();
        let ended = self.status.is_ended();
        self.ended_ms = ended.then_some(now_ms);
        self.expires_ms = ended.then(|| now_ms.saturating_add(as_ms(rules.after_end)));
    }

    /// The run as readers see it.
    pub(super) fn state(&self, now_ms: u64, rules: &StoreRules) -> RunState {
        if self.is_forgotten(now_ms, rules) {
            return RunState::Unknown;
        }
        if self.has_expired(now_ms) {
            return RunState::Expired;
        }
        let length = self.length();
        RunState::Known(RunInfo {
            status: self.status,
            length,
            first_id: (length > 0).then(|| self.first_id()),
            last_id: self.last_id(),
            last_sequence: (self.last_sequence > 0).then_some(Sequence(self.last_sequence)),
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            ended_ms: self.ended_ms,
            expires_in: self.expires_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms))),
        })
    }
}
