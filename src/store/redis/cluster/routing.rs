//! Which server a call goes to, and to which when that one says that it does not have the key any more. It says so before
//! anything is done, so the same call may go to another.

use super::Cluster;
use super::layout::Layout;
use super::slots::slot_of;
use crate::event::RunId;
use crate::store::redis::keys::RUNS;
use crate::store::redis::link::{is_elsewhere, odd};
use crate::store::redis::server::Server;
use crate::store::{LogStore, PublishOutcome, RunAppend, StoreError};
use futures::future::join_all;
use std::collections::HashMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often a run that is elsewhere is looked for, by who reads and by who appends, for whom others wait; and how long
/// each time a survey is waited for.
const LOOKS_TO_READ: usize = 10;
const LOOKS_TO_APPEND: usize = 2;
const LOOK: Duration = Duration::from_millis(100);
/// For how long nobody waits any more for a slot that takes its time to move.
const RESTLESS: Duration = Duration::from_secs(2);

impl Cluster {
    /// What stands for a run where its slot is looked for.
    pub(super) fn key_of(&self, run: &RunId) -> String {
        self.ground.keys.meta(run)
    }

    /// Has it found out who has which slots, and waits for a moment for what differs from this.
    async fn look_again(&self, seen: &Arc<Layout>) {
        let mut layouts = self.layouts.subscribe();
        self.moved.notify_one();
        let differs = layouts.wait_for(|layout| !Arc::ptr_eq(layout, seen));
        drop(timeout(LOOK, differs).await);
    }

    /// Asks the server that has this key; another one, if it says that it has it no more.
    async fn on_server_of<T, F>(
        &self,
        key: &str,
        most_looks: usize,
        ask: impl Fn(Server) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        let slot = slot_of(key);
        let is_restless =
            self.restless.lock().get(&slot).is_some_and(|until| Instant::now() < *until);
        let (most_looks, mut looks) = (if is_restless { 0 } else { most_looks }, 0);
        loop {
            let layout = self.layout_after_the_first_survey().await;
            let answer = match layout.server_of(key) {
                Ok((_, server)) => ask(server.clone()).await,
                Err(error) => Err(self.unknown(error)),
            };
            match answer {
                Err(error) if is_elsewhere(&error) && looks < most_looks => {
                    looks += 1;
                    self.look_again(&layout).await;
                }
                Err(error) if is_elsewhere(&error) => {
                    self.moved.notify_one();
                    let (mut restless, now) = (self.restless.lock(), Instant::now());
                    restless.retain(|_, until| now < *until);
                    restless.insert(slot, now + RESTLESS);
                    return Err(StoreError::RunMoves { reason: error.to_string() });
                }
                Err(error) => {
                    if error.is_transient() {
                        self.moved.notify_one();
                    }
                    return Err(error);
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Why nobody is known to have a slot: that nobody could be asked, if so.
    fn unknown(&self, error: StoreError) -> StoreError {
        match &*self.trouble.lock() {
            Some(reason) => StoreError::Unreachable { reason: reason.clone() },
            None => error,
        }
    }

    pub(super) async fn on_server_of_run<T, F>(
        &self,
        run: &RunId,
        ask: impl Fn(Server) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        self.on_server_of(&self.key_of(run), LOOKS_TO_READ, ask).await
    }

    /// Asks the server that has the list of runs.
    pub(super) async fn on_server_of_list<T, F>(
        &self,
        ask: impl Fn(Server) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        self.on_server_of(RUNS, LOOKS_TO_READ, ask).await
    }

    /// Appends to a run that is elsewhere by now, for which all others of its batch wait.
    async fn append_elsewhere(
        &self,
        append: &RunAppend,
    ) -> Result<Vec<PublishOutcome>, StoreError> {
        let append = slice::from_ref(append);
        self.on_server_of(&self.key_of(&append[0].run), LOOKS_TO_APPEND, move |server| async move {
            let results = server.append(append).await;
            results.into_iter().next().unwrap_or_else(|| Err(odd("no outcome")))
        })
        .await
    }

    pub(super) async fn append_all(
        &self,
        appends: &[RunAppend],
    ) -> Vec<Result<Vec<PublishOutcome>, StoreError>> {
        self.list_before(appends).await;
        let layout = self.layout_after_the_first_survey().await;
        let mut results = self.append_where(&layout, appends).await;
        // Those whose server has them no more are looked for.
        let elsewhere =
            (0..results.len()).filter(|i| results[*i].as_ref().is_err_and(is_elsewhere));
        let again = elsewhere
            .map(|index| async move { (index, self.append_elsewhere(&appends[index]).await) });
        for (index, result) in join_all(again).await {
            results[index] = result;
        }
        for (append, result) in appends.iter().zip(&results) {
            match result {
                Ok(outcomes) => self.tell_of(&append.run, outcomes),
                Err(error) if error.is_transient() => self.moved.notify_one(),
                Err(_) => {}
            }
        }
        results
    }

    /// Appends on all servers at once.
    async fn append_where(
        &self,
        layout: &Layout,
        appends: &[RunAppend],
    ) -> Vec<Result<Vec<PublishOutcome>, StoreError>> {
        let (mut results, mut shares) = (Vec::new(), HashMap::<_, (_, Vec<_>)>::new());
        for (index, append) in appends.iter().enumerate() {
            match layout.server_of(&self.key_of(&append.run)) {
                Ok((address, server)) => {
                    let share = shares.entry(address).or_insert_with(|| (server, Vec::new()));
                    share.1.push(index);
                    results.push(Err(odd("no outcome")));
                }
                Err(error) => results.push(Err(self.unknown(error))),
            }
        }
        let shares = shares.into_values().map(|(server, indexes)| async move {
            let share: Vec<RunAppend> = indexes.iter().map(|i| appends[*i].clone()).collect();
            (server.append(&share).await, indexes)
        });
        for (share, indexes) in join_all(shares).await {
            for (index, result) in indexes.into_iter().zip(share) {
                results[index] = result;
            }
        }
        results
    }

    pub(super) async fn probe_all(&self) -> Result<(), StoreError> {
        for look in 0..LOOKS_TO_READ {
            let layout = self.layout_after_the_first_survey().await;
            match layout.probe(look).await {
                // The slot of what was written has just moved.
                Err(error) if is_elsewhere(&error) => self.look_again(&layout).await,
                Err(error) => {
                    self.moved.notify_one();
                    return Err(self.unknown(error));
                }
                Ok(()) => return Ok(()),
            }
        }
        let reason = "the servers of the cluster do not agree which of them has which keys".into();
        Err(StoreError::Refused { reason })
    }
}
