//! Pages of a run's past, read and encoded once for all subscribers that ask for the same one: after a lost
//! connection a whole crowd comes back to one place.
//!
//! What is under way is shared. A page may then have been read a moment before its subscriber began to hear of
//! the run: the seam reads on from where it ends, and one that is empty is not taken from another.
//!
//! A page behind which there is more is kept for [`KEPT_FOR`] as well, since a crowd does not walk in step. What
//! such a page holds does not change, and what comes behind it is read anew. It goes only to those who found,
//! when they came, that the run holds all of it: the run may have been deleted, have expired or been trimmed
//! since it was read. Whoever does not know what the run holds reads for itself.

use super::Core;
use crate::event::{EncodedBatch, EventId, RunId, Sequence};
use crate::store::{Page, RangeRequest, StoreError};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Events and bytes read from the store at a time.
const EVENTS: usize = 512;
const BYTES: usize = 256 << 10;
/// How long a page is kept, and how many are at most.
const KEPT_FOR: Duration = Duration::from_secs(1);
const MOST_KEPT: usize = 32;

/// Events read behind a position, encoded.
#[derive(Debug)]
pub(super) struct ReadPage {
    pub(super) batch: EncodedBatch,
    /// Position and number of the first event of all that were read.
    pub(super) first: Option<(EventId, Option<Sequence>)>,
    /// The oldest event that the run held then, if it was asked for: where the first one has no number, nothing else
    /// tells whether it follows.
    pub(super) oldest: Option<EventId>,
    /// Whether the run holds more.
    pub(super) more: bool,
}

impl ReadPage {
    /// A page, encoded as `encode` does.
    pub(super) fn of(page: Page, encode: impl FnOnce(Page) -> EncodedBatch) -> Self {
        let first = page.events.first().map(|event| (event.id, event.sequence));
        Self { first, oldest: None, more: page.more, batch: encode(page) }
    }

    /// Whether it begins with something that the run held then.
    fn begins_in(&self, held: Span) -> bool {
        self.first.is_some_and(|(first, _)| first >= held.0)
    }
}

type Reading = Shared<BoxFuture<'static, Result<Arc<ReadPage>, StoreError>>>;

/// A run, and the position behind which a page begins.
type Place = (RunId, EventId);

/// The pages that are being read, and those that were just read.
#[derive(Default)]
pub(super) struct Pages(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: HashMap<Place, Reading>,
    /// The oldest first.
    kept: VecDeque<Kept>,
}

struct Kept {
    place: Place,
    until: Instant,
    page: Arc<ReadPage>,
}

/// The first and the last position that a run held when a reader came.
type Span = (EventId, EventId);

impl Core {
    /// The page of a run behind a position. `held` is what the run held when its reader came, if that is known.
    pub(super) async fn page(
        self: &Arc<Self>,
        run: &RunId,
        after: EventId,
        held: Option<Span>,
    ) -> Result<Arc<ReadPage>, StoreError> {
        let Some(held) = held else { return self.read_page(run, after).await };
        let place = (run.clone(), after);
        let mut reads = false;
        let reading = {
            let mut state = self.pages.0.lock();
            if let Some(page) = state.kept(&place, held, Instant::now()) {
                return Ok(page);
            }
            let reading = state.under_way.entry(place.clone()).or_insert_with(|| {
                reads = true;
                let (core, run) = (Arc::clone(self), run.clone());
                async move { core.read_page(&run, after).await }.boxed().shared()
            });
            reading.clone()
        };
        // Whoever began it ends the sharing, also if it goes away in the middle; the others read on.
        let shared = reads.then(|| Sharing { core: Arc::clone(self), place: place.clone() });
        let page = reading.await?;
        if shared.is_none() && !page.begins_in(held) {
            // It may have been read before what the subscriber knows of was there.
            return self.read_page(run, after).await;
        }
        if shared.is_some() && page.first.is_some() && page.more {
            self.keep(place, Arc::clone(&page));
        }
        Ok(page)
    }

    async fn read_page(&self, run: &RunId, after: EventId) -> Result<Arc<ReadPage>, StoreError> {
        let page = self.store.range(run, RangeRequest::after(after, EVENTS, BYTES)).await?;
        let encode = |page: Page| EncodedBatch::encode(after, page.events, &self.rules);
        let mut page = ReadPage::of(page, encode);
        if after > EventId::START && page.first.is_some_and(|(_, sequence)| sequence.is_none()) {
            let oldest = self.store.range(run, RangeRequest::oldest()).await?;
            page.oldest = oldest.events.first().map(|oldest| oldest.id);
        }
        Ok(Arc::new(page))
    }

    fn keep(self: &Arc<Self>, place: Place, page: Arc<ReadPage>) {
        let until = Instant::now() + KEPT_FOR;
        self.pages.0.lock().keep(Kept { place, until, page });
        let core = Arc::downgrade(self);
        actix::spawn(async move {
            sleep(KEPT_FOR).await;
            if let Some(core) = core.upgrade() {
                core.pages.0.lock().forget(Instant::now());
            }
        });
    }
}

impl State {
    fn kept(&self, place: &Place, held: Span, now: Instant) -> Option<Arc<ReadPage>> {
        let is_it = |kept: &&Kept| {
            let page = &kept.page;
            let is_held = page.begins_in(held) && page.batch.last <= held.1;
            kept.place == *place && kept.until > now && is_held
        };
        self.kept.iter().find(is_it).map(|kept| Arc::clone(&kept.page))
    }

    fn keep(&mut self, kept: Kept) {
        if self.kept.len() == MOST_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    fn forget(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|kept| kept.until <= now) {
            self.kept.pop_front();
        }
    }
}

/// A page is under way.
struct Sharing {
    core: Arc<Core>,
    place: Place,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.core.pages.0.lock().under_way.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ReadRules, decode_entry};

    #[test]
    fn a_page_is_kept_for_a_while_for_readers_of_what_it_holds() {
        let at = |n| EventId::new(n, 0);
        let place = |n| (RunId::parse("r").unwrap(), at(n));
        let page = |n: u64| {
            let event = decode_entry(&place(n).0, at(n + 1), []);
            let batch = EncodedBatch::encode(at(n), vec![event], &ReadRules::default());
            Arc::new(ReadPage { batch, first: Some((at(n + 1), None)), oldest: None, more: true })
        };
        let (now, mut state) = (Instant::now(), State::default());
        let until = now + KEPT_FOR;
        for n in 0..=MOST_KEPT as u64 {
            state.keep(Kept { place: place(n), until, page: page(n) });
        }
        let holds = (at(1), at(100));
        assert!(state.kept(&place(1), holds, now).is_some());
        assert!(state.kept(&place(0), holds, now).is_none(), "there are {MOST_KEPT} at most");
        assert!(state.kept(&place(1), (at(2), at(2)), now).is_some());
        assert!(state.kept(&place(1), (at(3), at(100)), now).is_none(), "trimmed, or another run");
        assert!(state.kept(&place(1), (at(1), at(1)), now).is_none(), "it holds less by now");
        assert!(state.kept(&place(1), holds, until).is_none());
        state.forget(until);
        assert!(state.kept.is_empty());
    }
}
