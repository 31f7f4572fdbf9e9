//! Large answers to questions for history that were asked before: a finished run that many look at, a page
//! that is reloaded. One is kept from the second time on that it is asked for, and given again only if the
//! store says, when it is asked, that the run still begins and ends where it did and holds as many events.

use crate::event::{EventId, RunId};
use crate::store::RunState;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Smaller answers are as soon read again.
const WORTH_KEEPING: usize = 64 << 10;
/// The most questions remembered.
const QUESTIONS: usize = 256;

/// What is kept, within a limit.
pub(super) struct Answers {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that was asked least recently first.
    asked: VecDeque<Asked>,
    bytes: usize,
}

struct Asked {
    question: Question,
    answer: Option<(Stamp, Bytes)>,
}

/// Which part of which run, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) run: RunId,
    pub(super) query: Box<str>,
}

/// What a run holds. Events do not change: with the same first and last one, and as many, it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    first: Option<EventId>,
    last: EventId,
    length: u64,
}

impl Stamp {
    /// None for a run that is not there.
    pub(super) fn of(state: &RunState) -> Option<Self> {
        match state {
            RunState::Known(info) => {
                Some(Self { first: info.first_id, last: info.last_id, length: info.length })
            }
            RunState::Unknown | RunState::Expired => None,
        }
    }
}

impl Answers {
    /// Room for this many bytes of answers.
    pub(super) fn new(room: usize) -> Self {
        Self { room, kept: Mutex::default() }
    }

    /// Whether this was asked before, and what is kept of it.
    pub(super) fn find(&self, question: &Question) -> Option<Option<(Stamp, Bytes)>> {
        let mut kept = self.kept.lock();
        let place = kept.asked.iter().rposition(|asked| asked.question == *question)?;
        let asked = kept.asked.remove(place)?;
        let answer = asked.answer.clone();
        kept.asked.push_back(asked);
        Some(answer)
    }

    /// Remembers a question, with its answer if it is to be kept.
    pub(super) fn note(&self, question: Question, body: &Bytes, stamp: Option<Stamp>) {
        if body.len() < WORTH_KEEPING || body.len() > self.room {
            return;
        }
        let mut kept = self.kept.lock();
        if let Some(place) = kept.asked.iter().position(|asked| asked.question == question) {
            kept.forget(place);
        }
        // A copy is of its own size, which what it was written into may not be.
        let answer = stamp.map(|stamp| (stamp, Bytes::copy_from_slice(body)));
        kept.bytes += answer.as_ref().map_or(0, |(_, body)| body.len());
        kept.asked.push_back(Asked { question, answer });
        while kept.bytes > self.room || kept.asked.len() > QUESTIONS {
            kept.forget(0);
        }
    }
}

impl Kept {
    fn forget(&mut self, place: usize) {
        if let Some(Asked { answer: Some((_, body)), .. }) = self.asked.remove(place) {
            self.bytes -= body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(n: usize) -> Question {
        Question { run: RunId::parse("7").unwrap(), query: format!("limit={n}").into() }
    }

    #[test]
    fn the_room_is_kept_and_the_oldest_goes_first() {
        let stamp = Stamp { first: None, last: EventId::START, length: 1 };
        let answers = Answers::new(3 * WORTH_KEEPING);
        let body = Bytes::from(vec![0; WORTH_KEEPING]);
        answers.note(question(0), &body, None);
        assert_eq!(answers.find(&question(0)), Some(None));
        for n in 1..=3 {
            answers.note(question(n), &body, Some(stamp));
        }
        assert!(answers.find(&question(1)).is_some_and(|answer| answer.is_some()));
        answers.note(question(4), &body, Some(stamp));
        assert_eq!(answers.find(&question(2)), None);
        assert!(answers.find(&question(1)).is_some() && answers.find(&question(4)).is_some());
        assert_eq!(answers.kept.lock().bytes, 3 * WORTH_KEEPING);
        answers.note(question(4), &body, None);
        assert_eq!(answers.kept.lock().bytes, 2 * WORTH_KEEPING);
        answers.note(question(5), &body.slice(1..), Some(stamp));
        assert_eq!(answers.find(&question(5)), None, "not worth it");
        for n in 10..=10 + QUESTIONS {
            answers.note(question(n), &body, None);
        }
        assert_eq!(answers.kept.lock().asked.len(), QUESTIONS);
    }
}
