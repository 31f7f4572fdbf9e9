//! Pages of a run's past, read and encoded once for all subscribers that ask for the same one at the same
//! time: after a lost connection a whole crowd comes back to one place.
//!
//! Only what is under way is shared, nothing is kept: whoever comes later reads what the store holds then.
//! A page may have been read a moment before its subscriber began to hear of the run: the seam reads on from
//! where it ends, and one that is empty is not taken from another.

use super::Core;
use crate::event::{EncodedBatch, EventId, RunId, Sequence};
use crate::store::{Page, RangeRequest, StoreError};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Events and bytes read from the store at a time.
const EVENTS: usize = 512;
const BYTES: usize = 256 << 10;

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

/// The pages that are being read.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<(RunId, EventId), Reading>>);

impl Core {
    /// The page of a run behind a position.
    pub(super) async fn page(
        self: &Arc<Self>,
        run: &RunId,
        after: EventId,
    ) -> Result<Arc<ReadPage>, StoreError> {
        let key = (run.clone(), after);
        let mut reads = false;
        let reading = {
            let mut under_way = self.pages.0.lock();
            let reading = under_way.entry(key.clone()).or_insert_with(|| {
                reads = true;
                let (core, run) = (Arc::clone(self), run.clone());
                async move { core.read_page(&run, after).await }.boxed().shared()
            });
            reading.clone()
        };
        // Whoever began it ends the sharing, also if it goes away in the middle; the others read on.
        let shared = reads.then(|| Sharing { core: Arc::clone(self), key });
        let page = reading.await?;
        if shared.is_none() && page.first.is_none() {
            // It may have been read before what the subscriber knows of was there.
            return self.read_page(run, after).await;
        }
        Ok(page)
    }

    async fn read_page(&self, run: &RunId, after: EventId) -> Result<Arc<ReadPage>, StoreError> {
        let page = self.store.range(run, RangeRequest::after(after, EVENTS, BYTES)).await?;
        let encode = |page: Page| EncodedBatch::encode(after, page.events, &self.rules);
        Ok(Arc::new(ReadPage::of(page, encode)))
    }
}

/// A page is under way.
struct Sharing {
    core: Arc<Core>,
    key: (RunId, EventId),
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.core.pages.0.lock().remove(&self.key);
    }
}
