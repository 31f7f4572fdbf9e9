//! Following a run in a cluster: on the server that has it, and on another one from where it stood when its slot has
//! gone there.

use super::layout::Layout;
use super::slots::Address;
use crate::event::{EventId, RunId};
use crate::store::{LogStore, Tail, TailItem};
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait before a server is tried again that ended a tail.
const RETRY_AFTER: Duration = Duration::from_millis(100);

struct Follower {
    run: RunId,
    /// What its server is looked for by.
    key: String,
    position: EventId,
    layouts: watch::Receiver<Arc<Layout>>,
    /// On which server, and what it tells.
    followed: Option<(Address, Tail)>,
}

/// The tail of a run, whose server is looked for by this key.
pub(super) fn follow(
    layouts: watch::Receiver<Arc<Layout>>,
    run: &RunId,
    key: String,
    after: EventId,
) -> Tail {
    let (run, position) = (run.clone(), after);
    let follower = Follower { run, key, position, layouts, followed: None };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    }))
}

impl Follower {
    /// What is next; none once the store is gone.
    async fn next(&mut self) -> Option<TailItem> {
        loop {
            let Some((_, tail)) = &mut self.followed else {
                self.go_where_the_run_is();
                if self.followed.is_none() {
                    // The store is gone where nothing can change any more.
                    self.layouts.changed().await.ok()?;
                }
                continue;
            };
            tokio::select! {
                item = tail.next() => match item {
                    Some(item) => {
                        match &item {
                            TailItem::Events(events) => {
                                self.position = events.last().map_or(self.position, |e| e.id);
                            }
                            TailItem::Reset => self.position = EventId::START,
                        }
                        return Some(item);
                    }
                    None => {
                        self.followed = None;
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                },
                changed = self.layouts.changed() => {
                    changed.ok()?;
                    self.go_where_the_run_is();
                }
            }
        }
    }

    /// Follows the run on the server that has it, if one is known.
    fn go_where_the_run_is(&mut self) {
        let layout = Arc::clone(&self.layouts.borrow_and_update());
        let Ok((address, server)) = layout.server_of(&self.key) else {
            self.followed = None;
            return;
        };
        if self.followed.as_ref().is_none_or(|(followed, _)| followed != address) {
            self.followed = Some((address.clone(), server.tail(&self.run, self.position)));
        }
    }
}
