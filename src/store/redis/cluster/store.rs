//! A cluster as a store.

use super::list::LISTING;
use super::{Cluster, tail};
use crate::event::{EventId, RunId, RunStatus};
use crate::store::redis::listing::{self, Listing};
use crate::store::redis::server::Server;
use crate::store::{
    Answer, LogStore, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreStatus, Tail,
};
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::timeout;

impl LogStore for Cluster {
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>> {
        Box::pin(self.append_all(appends))
    }

    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        Box::pin(
            self.on_server_of_run(
                run,
                move |server| async move { server.range(run, request).await },
            ),
        )
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Answer<'a, RunState> {
        Box::pin(self.state(run))
    }

    fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage> {
        Box::pin(async move {
            // Whoever has just published finds it there, if the list can be told.
            drop(timeout(LISTING, self.tell_list()).await);
            listing::page(self, after, limit, status).await
        })
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        Box::pin(self.on_server_of_run(run, move |server| async move {
            server.set_expiry(run, after).await
        }))
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        Box::pin(async move {
            let delete = |server: Server| async move { server.delete(run).await };
            let was_there = self.on_server_of_run(run, delete).await?;
            // The run is gone, whether the list can be told or not: that is swept.
            if let Err(error) = self.unlist(vec![run.clone()]).await {
                log::debug!("could not take run {run} off the list: {error}");
            }
            Ok(was_there)
        })
    }

    fn deleted_at<'a>(&'a self, run: &'a RunId) -> Answer<'a, Option<u64>> {
        Box::pin(
            self.on_server_of_run(run, move |server| async move { server.deleted_at(run).await }),
        )
    }

    fn tail(&self, run: &RunId, after: EventId) -> Tail {
        tail::follow(self.layouts.subscribe(), run, self.key_of(run), after)
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.probe_all())
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(listing::sweep(self, &self.sweep_at))
    }

    fn status(&self) -> StoreStatus {
        let trouble = self.trouble.lock().clone();
        let servers = self.servers();
        let trouble = trouble.or_else(|| servers.iter().find_map(|s| s.status().trouble));
        StoreStatus { kind: "redis", place: self.place.to_string(), trouble }
    }
}
