//! Where a stream begins, decided from what the reader asks for and how the run stands. Pure.

use super::session::{Start, SubscribeError};
use crate::event::EventId;
use crate::store::{RunInfo, RunState};

/// Where a stream begins, and what is known of the run there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// Everything up to here is known to the reader.
    pub(super) cursor: EventId,
    /// The run's last position.
    pub(super) last: EventId,
    /// Whether the run has ended.
    pub(super) ended: bool,
    /// Whether events behind the cursor may have been trimmed.
    pub(super) doubtful: bool,
    /// The oldest event that the run holds, if it is known to hold any.
    pub(super) first: Option<EventId>,
    /// The reader's cursor, if it lies ahead of the run.
    pub(super) reset_from: Option<EventId>,
}

impl Opening {
    /// At the beginning of a run of which nothing is known.
    pub(super) fn at_nothing() -> Self {
        let start = EventId::START;
        Self {
            cursor: start,
            last: start,
            ended: false,
            doubtful: false,
            first: None,
            reset_from: None,
        }
    }

    /// In a run that stands like this.
    fn of(start: Start, state: &RunState) -> Result<Self, SubscribeError> {
        match (state, start) {
            (RunState::Expired, _) => Err(SubscribeError::Expired),
            (RunState::Known(info), _) => Self::at_known(start, info),
            (RunState::Unknown, Start::After(id)) if id > EventId::START => {
                Ok(Self { reset_from: Some(id), ..Self::at_nothing() })
            }
            (RunState::Unknown, _) => Ok(Self::at_nothing()),
        }
    }

    /// The same, also in a run that is over: at its end then, as it may begin again, and why nothing comes for now.
    pub(super) fn even_if_over(start: Start, state: &RunState) -> (Self, Option<SubscribeError>) {
        match (Self::of(start, state), state) {
            (Ok(known), _) => (known, None),
            (Err(over), RunState::Known(info)) => {
                let (last, first) = (info.last_id, info.first_id);
                let known = Self { cursor: last, last, first, ended: true, ..Self::at_nothing() };
                (known, Some(over))
            }
            (Err(over), _) => (Self::at_nothing(), Some(over)),
        }
    }

    fn at_known(start: Start, info: &RunInfo) -> Result<Self, SubscribeError> {
        let (first, last, ended) = (info.first_id, info.last_id, info.status.is_ended());
        let (cursor, given) = match start {
            Start::Beginning => (EventId::START, false),
            Start::Live => (last, false),
            Start::After(id) => (id, true),
        };
        if cursor > last {
            return Ok(Self { last, first, reset_from: Some(cursor), ..Self::at_nothing() });
        }
        if ended && cursor == last && start != Start::Beginning {
            return Err(SubscribeError::Finished);
        }
        let doubtful = given && first.is_none_or(|first| cursor < first) && cursor < last;
        Ok(Self { cursor, last, ended, doubtful, first, reset_from: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunStatus, Sequence};

    fn known(status: RunStatus) -> RunState {
        RunState::Known(RunInfo {
            status,
            length: 5,
            first_id: Some(EventId::new(5, 0)),
            last_id: EventId::new(9, 0),
            last_sequence: Some(Sequence(9)),
            created_ms: 1,
            updated_ms: 9,
            ended_ms: None,
            expires_in: None,
        })
    }

    #[test]
    fn a_stream_begins_where_the_reader_asks_and_the_run_allows() {
        let (running, ended) = (known(RunStatus::Running), known(RunStatus::Failed));
        let at = |n| EventId::new(n, 0);
        let of = |start, state: &RunState| Opening::of(start, state).unwrap();
        assert_eq!(of(Start::Live, &running).cursor, at(9));
        assert!(
            !of(Start::Beginning, &running).doubtful && of(Start::After(at(4)), &running).doubtful
        );
        assert!(!of(Start::After(at(5)), &running).doubtful);
        assert_eq!(of(Start::After(at(10)), &ended).reset_from, Some(at(10)));
        assert_eq!(of(Start::After(at(1)), &RunState::Unknown).reset_from, Some(at(1)));
        for start in [Start::Live, Start::After(at(9))] {
            assert_eq!(Opening::of(start, &ended), Err(SubscribeError::Finished));
            let (known, over) = Opening::even_if_over(start, &ended);
            assert_eq!(
                (known.cursor, known.ended, over),
                (at(9), true, Some(SubscribeError::Finished))
            );
        }
        assert_eq!(Opening::even_if_over(Start::After(at(8)), &ended).1, None);
        assert!(of(Start::After(at(8)), &ended).ended);
        assert_eq!(Opening::of(Start::Live, &RunState::Expired), Err(SubscribeError::Expired));
        let expired = Opening::even_if_over(Start::After(at(9)), &RunState::Expired);
        assert_eq!(expired, (Opening::at_nothing(), Some(SubscribeError::Expired)));
    }
}
