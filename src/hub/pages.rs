//! Pages of a run's past, read and encoded once for all subscribers that ask for the same one: after a lost
//! connection a whole crowd comes back to one place.
//!
//! What is under way is shared. A page may then have been read a moment before its subscriber began to hear of
//! the run: the seam reads on from where it ends, and one that is empty is not taken from another.
//!
//! A page behind which there is more is kept for [`KEPT_FOR`] as well, since a crowd does not walk in step. What
//! such a page holds does not change, and what comes behind it is read anew. It goes only to those who found
//! the same run when they came: one that was deleted and began again meanwhile has another birth.

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
    /// Whether the run holds more.
    pub(super) more: bool,
}

impl ReadPage {
    /// A page, encoded as `encode` does.
    pub(super) fn of(page: Page, encode: impl FnOnce(Page) -> EncodedBatch) -> Self {
        let first = page.events.first().map(|event| (event.id, event.sequence));
        Self { first, more: page.more, batch: encode(page) }
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
    /// When the run was created, in ms.
    born_ms: u64,
    until: Instant,
    page: Arc<ReadPage>,
}

impl Core {
    /// The page of a run behind a position. `born_ms` is when the run was created, as far as its reader knows.
    pub(super) async fn page(
        self: &Arc<Self>,
        run: &RunId,
        after: EventId,
        born_ms: Option<u64>,
    ) -> Result<Arc<ReadPage>, StoreError> {
        let place = (run.clone(), after);
        let mut reads = false;
        let reading = {
            let mut state = self.pages.0.lock();
            if let Some(page) = state.kept(&place, born_ms, Instant::now()) {
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
        if shared.is_none() && page.first.is_none() {
            // It may have been read before what the subscriber knows of was there.
            return self.read_page(run, after).await;
        }
        if let (Some(born_ms), true, true) = (born_ms, shared.is_some(), page.more) {
            self.keep(place, born_ms, Arc::clone(&page));
        }
        Ok(page)
    }

    async fn read_page(&self, run: &RunId, after: EventId) -> Result<Arc<ReadPage>, StoreError> {
        let page = self.store.range(run, RangeRequest::after(after, EVENTS, BYTES)).await?;
        let encode = |page: Page| EncodedBatch::encode(after, page.events, &self.rules);
        Ok(Arc::new(ReadPage::of(page, encode)))
    }

    fn keep(self: &Arc<Self>, place: Place, born_ms: u64, page: Arc<ReadPage>) {
        let until = Instant::now() + KEPT_FOR;
        self.pages.0.lock().keep(Kept { place, born_ms, until, page });
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
    fn kept(&self, place: &Place, born_ms: Option<u64>, now: Instant) -> Option<Arc<ReadPage>> {
        let is_it = |k: &&Kept| k.place == *place && Some(k.born_ms) == born_ms && k.until > now;
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
    use crate::event::ReadRules;

    #[test]
    fn a_page_is_kept_for_a_while_for_readers_of_the_same_run() {
        let place = |n| (RunId::parse("r").unwrap(), EventId::new(n, 0));
        let page = || {
            let batch = EncodedBatch::encode(EventId::START, Vec::new(), &ReadRules::default());
            Arc::new(ReadPage { batch, first: None, more: true })
        };
        let (now, mut state) = (Instant::now(), State::default());
        let until = now + KEPT_FOR;
        for n in 0..=MOST_KEPT as u64 {
            state.keep(Kept { place: place(n), born_ms: 5, until, page: page() });
        }
        assert!(state.kept(&place(1), Some(5), now).is_some());
        assert!(state.kept(&place(0), Some(5), now).is_none(), "there are {MOST_KEPT} at most");
        assert!(state.kept(&place(1), Some(6), now).is_none(), "it is another run by now");
        assert!(state.kept(&place(1), None, now).is_none());
        assert!(state.kept(&place(1), Some(5), until).is_none());
        state.forget(until);
        assert!(state.kept.is_empty());
    }
}
