//! Finds runs that only other programs have written to, and puts them on the list of runs.
//!
//! A walk goes through the keyspace with `SCAN`, a small step at a time, then pauses and begins again. A
//! run that it finds and that is not listed is asked for its state, which counts in what was written to it
//! and lists it. While Redis is away the step is tried again.

use super::link::odd;
use super::listing::{self, Listing};
use super::reply;
use super::server::Server;
use crate::event::RunId;
use crate::store::StoreError;
use redis::Value;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::time::Duration;

/// Between the steps of a walk, so that walking takes little of the server's time.
const BETWEEN_STEPS: Duration = Duration::from_millis(20);
/// Between two walks, and before a step that failed is tried again.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);
/// Keys that one step looks at.
const KEYS_A_STEP: usize = 500;
/// Runs taken up at a time; what each costs depends on what was written to it.
const RUNS_AT_ONCE: usize = 16;

/// Walks until the store is gone, through the keyspace of one server after the other.
pub(super) async fn walk<L: Listing, S: Borrow<L>>(store: impl Fn() -> Option<S>) {
    let (mut walks, mut turn): (HashMap<String, Walk>, usize) = (HashMap::new(), 0);
    while let Some(store) = store() {
        let servers = store.borrow().servers();
        let pause = match servers.get(turn % servers.len().max(1)) {
            None => BETWEEN_WALKS,
            Some(server) => {
                walks.retain(|place, _| servers.iter().any(|s| *place == s.place()));
                let walk = walks.entry(server.place()).or_default();
                match walk.step(server, store.borrow()).await {
                    Ok(Step::Along) => BETWEEN_STEPS,
                    Ok(Step::Through) => {
                        turn += 1;
                        BETWEEN_WALKS
                    }
                    Err(error) => {
                        log::debug!("could not look for runs of other programs: {error}");
                        turn += 1;
                        BETWEEN_WALKS
                    }
                }
            }
        };
        drop((store, servers));
        tokio::time::sleep(pause).await;
    }
}

/// Where a walk is: at which shape of keys, and how far with that.
struct Walk {
    shape: usize,
    cursor: String,
}

impl Default for Walk {
    fn default() -> Self {
        Self { shape: 0, cursor: "0".to_owned() }
    }
}

/// How far a step has brought the walk.
enum Step {
    /// There is more.
    Along,
    /// Through the keyspace, with every shape.
    Through,
}

impl Walk {
    async fn step(&mut self, server: &Server, listing: &impl Listing) -> Result<Step, StoreError> {
        let inner = &server.inner;
        let shapes = inner.ground.keys.shapes(inner.streams.serves_jobs());
        let shape = shapes[self.shape];
        let mut scan = redis::cmd("SCAN");
        scan.arg(&self.cursor).arg("MATCH").arg(shape.pattern());
        scan.arg("COUNT").arg(KEYS_A_STEP).arg("TYPE").arg("stream");
        let [cursor, keys] =
            <[Value; 2]>::try_from(reply::items(inner.reads.command(scan).await?)?)
                .map_err(|_| odd("expected a cursor and keys"))?;
        let keys = reply::items(keys)?;
        // Keys that only look alike name no run.
        let runs = keys.iter().filter_map(|key| shape.run_of(reply::text(key).ok()?)).collect();
        take_up(listing, runs).await?;
        // Only now: a step that failed is done again.
        reply::text(&cursor)?.clone_into(&mut self.cursor);
        if self.cursor == "0" {
            self.shape = (self.shape + 1) % shapes.len();
        }
        let is_through = self.cursor == "0" && self.shape == 0;
        Ok(if is_through { Step::Through } else { Step::Along })
    }
}

/// Lists those of the runs that are not listed.
async fn take_up(listing: &impl Listing, runs: Vec<RunId>) -> Result<(), StoreError> {
    let unlisted = listing::unlisted(listing, runs).await?;
    for some in unlisted.chunks(RUNS_AT_ONCE) {
        listing.states(some).await?;
    }
    Ok(())
}
