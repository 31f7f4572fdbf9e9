//! Following a run in a cluster: on the server that has it, and on another one from where it stood when its slot has
//! gone there.

use super::Cluster;
use super::layout::Layout;
use super::slots::Address;
use crate::event::{EventId, RunId};
use crate::store::{LogStore, Tail, TailItem};
use futures::{StreamExt, stream};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait before a server is tried again that ended a tail, or for one to be known.
const RETRY_AFTER: Duration = Duration::from_millis(100);

struct Follower {
    cluster: Weak<Cluster>,
    run: RunId,
    position: EventId,
    layouts: watch::Receiver<Arc<Layout>>,
    /// On which server, and what it tells.
    followed: Option<(Address, Tail)>,
}

/// The tail of a run.
pub(super) fn follow(
    cluster: Weak<Cluster>,
    layouts: watch::Receiver<Arc<Layout>>,
    run: &RunId,
    after: EventId,
) -> Tail {
    let (run, position) = (run.clone(), after);
    let follower = Follower { cluster, run, position, layouts, followed: None };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    }))
}

impl Follower {
    /// What is next; none once the store is gone.
    async fn next(&mut self) -> Option<TailItem> {
        loop {
            self.go_where_the_run_is()?;
            let Some((_, tail)) = &mut self.followed else {
                // The store is gone where nothing can change any more.
                let changed = tokio::time::timeout(RETRY_AFTER, self.layouts.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return None;
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
                changed = self.layouts.changed() => changed.ok()?,
            }
        }
    }

    /// Follows the run on the server that has it, if one is known. None once the store is gone.
    fn go_where_the_run_is(&mut self) -> Option<()> {
        let cluster = self.cluster.upgrade()?;
        let layout = Arc::clone(&self.layouts.borrow_and_update());
        let Ok((address, server)) = layout.server_of(&cluster.key_of(&self.run)) else {
            self.followed = None;
            return Some(());
        };
        if self.followed.as_ref().is_none_or(|(followed, _)| followed != address) {
            self.followed = Some((address.clone(), server.tail(&self.run, self.position)));
        }
        Some(())
    }
}
