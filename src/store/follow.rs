//! Following a run of a store in this process: read what is there, then take what is appended.
//!
//! A tail takes what it is told of an append ([`followers`](super::followers)) if that comes right behind where it
//! stands, and reads the log otherwise.

use super::followers::{Followers, News, Seat};
use super::{LogStore, RangeRequest, RunState, Tail, TailItem};
use crate::event::{EventId, RunId, StoredEvent};
use futures::stream;
use std::sync::Arc;
use std::time::Duration;

/// How often a tail looks whether its run was reset, and how long it waits after a failed read.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_millis(200);
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

struct Follower<S> {
    store: S,
    run: RunId,
    position: EventId,
    seat: Seat,
    /// There may be something that it was not told of.
    must_read: bool,
}

/// The tail of a run in a store that tells `followers` of each append.
pub(super) fn follow<S: LogStore + 'static>(
    store: S,
    followers: &Arc<Followers>,
    run: &RunId,
    after: EventId,
) -> Tail {
    // Taken in before reading, so that an append in between is heard of.
    let seat = followers.join(run);
    let follower = Follower { store, run: run.clone(), position: after, seat, must_read: true };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await;
        Some((item, follower))
    }))
}

impl<S: LogStore> Follower<S> {
    async fn next(&mut self) -> TailItem {
        loop {
            match self.seat.take(self.position) {
                News::Events(events) => return self.go_on(events),
                News::Read => self.must_read = true,
                News::Nothing => {}
            }
            if !self.must_read {
                let told = tokio::time::timeout(CHECK_EVERY, self.seat.told()).await;
                self.must_read = told.is_err() && !self.is_up_to_date().await;
                continue;
            }
            self.must_read = false;
            let request = RangeRequest::after(self.position, PAGE_EVENTS, PAGE_BYTES);
            match self.store.range(&self.run, request).await {
                Ok(page) if !page.events.is_empty() => {
                    self.must_read = page.more;
                    return self.go_on(page.events);
                }
                Ok(_) if self.is_ahead().await => {
                    (self.position, self.must_read) = (EventId::START, true);
                    return TailItem::Reset;
                }
                Ok(_) => {}
                Err(_) => {
                    self.must_read = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn go_on(&mut self, events: Vec<StoredEvent>) -> TailItem {
        self.position = events.last().map_or(self.position, |e| e.id);
        TailItem::Events(events)
    }

    async fn is_up_to_date(&self) -> bool {
        match self.store.run(&self.run).await {
            Ok(RunState::Known(info)) => info.last_id == self.position,
            Ok(RunState::Unknown | RunState::Expired) => self.position == EventId::START,
            Err(_) => false,
        }
    }

    async fn is_ahead(&self) -> bool {
        if self.position == EventId::START {
            return false;
        }
        match self.store.run(&self.run).await {
            Ok(RunState::Known(info)) => info.last_id < self.position,
            Ok(RunState::Unknown | RunState::Expired) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, Sequence, Timestamp};
    use crate::store::appended::Appended;
    use crate::store::memory::MemoryStore;
    use crate::store::{Placed, Publish, PublishOutcome, RunAppend, StoreRules};
    use futures::StreamExt;

    fn append(run: &RunId, number: u64) -> RunAppend {
        let now = Timestamp::from_ms(5);
        let parsed = parse_event(run, r#"{"type":"a.b"}"#, now, EventLimits { max_data: 100 });
        let events = [NewEvent::new(parsed.unwrap())].into();
        let publishes = vec![Publish::now(number, events, false)];
        RunAppend { run: run.clone(), writer: 1, publishes }
    }

    async fn next(tail: &mut Tail) -> Vec<EventId> {
        match tail.next().await {
            Some(TailItem::Events(events)) => events.iter().map(|event| event.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_right_behind_is_not_read() {
        let config = Config::default();
        let store =
            MemoryStore::new(StoreRules::new(&config.retention, config.publish.dedup_window));
        let (run, followers) = (RunId::parse("7").unwrap(), Arc::new(Followers::default()));
        actix::System::new().block_on(async {
            let mut tail = follow(store.clone(), &followers, &run, EventId::START);
            assert!(store.append(&[append(&run, 1)]).await[0].is_ok());
            let read = next(&mut tail).await;
            // The store has no such event, so the tail cannot have it from there.
            let told = EventId::new(read[0].ms + 1_000_000, 0);
            let placed = Placed::of_new(told, Sequence(2));
            let outcomes = vec![PublishOutcome::Stored(vec![placed])];
            let appended = Appended { previous: read[0], outcomes };
            followers.tell_all(&[append(&run, 2)], &[appended]);
            assert_eq!(next(&mut tail).await, [told]);
        });
    }
}
