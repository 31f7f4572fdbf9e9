//! The list of runs by last activity: going through it in pages, and sweeping it of what is gone. What is listed is
//! a name and a time; how a run stands is asked of wherever it lives.

use super::keys::RUNS;
use super::reply;
use super::server::Server;
use crate::event::{RunId, RunStatus};
use crate::store::{RunState, RunsCursor, RunsPage, StoreError};
use redis::{Cmd, Value};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs looked at in one step of the list.
const LIST_SCAN: usize = 200;
/// Listed runs that one sweep looks at.
const SWEEP_RUNS: usize = 500;

/// Where the list is, and the runs that are on it.
pub(super) trait Listing: Send + Sync {
    /// The servers that the runs live on.
    fn servers(&self) -> Vec<Server>;

    /// Asks the server that holds the list.
    fn ask_list(&self, question: Cmd) -> impl Future<Output = Result<Value, StoreError>> + Send;

    /// The list does not have these runs.
    fn are_unlisted(&self, _runs: &[RunId]) {}

    /// How runs stand, one each, in order. Of one that is broken nothing is known; the others do not suffer from it.
    fn states(
        &self,
        runs: &[RunId],
    ) -> impl Future<Output = Result<Vec<RunState>, StoreError>> + Send;

    /// Takes those of the runs off the list of which nothing is kept. Answers how many.
    fn forget(&self, runs: &[RunId]) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// A page of the list, newest activity first.
pub(super) async fn page(
    listing: &impl Listing,
    after: Option<&RunsCursor>,
    limit: usize,
    status: Option<RunStatus>,
) -> Result<RunsPage, StoreError> {
    let newest = after.map_or(u64::MAX, |a| a.ms);
    let (mut page, mut offset) = (RunsPage::default(), 0);
    loop {
        let listed = step(listing, offset, newest).await?;
        offset += listed.len();
        let last = listed.len() < LIST_SCAN;
        let behind = |(ms, run): &(u64, RunId)| after.is_none_or(|a| (*ms, run) < (a.ms, &a.run));
        let listed: Vec<_> = listed.into_iter().flatten().filter(behind).collect();
        let names: Vec<RunId> = listed.iter().map(|(_, run)| run.clone()).collect();
        let states = if names.is_empty() { Vec::new() } else { listing.states(&names).await? };
        for ((ms, run), state) in listed.into_iter().zip(states) {
            let RunState::Known(info) = state else { continue };
            if status.is_some_and(|s| s != info.status) {
                continue;
            }
            page.runs.push((run.clone(), info));
            if page.runs.len() == limit {
                page.next = Some(RunsCursor { ms, run });
                return Ok(page);
            }
        }
        if last {
            return Ok(page);
        }
    }
}

/// Members of the list from a place on, newest activity first, with their times; none for names that are no run ids,
/// which are not ours.
async fn step(
    listing: &impl Listing,
    offset: usize,
    newest: u64,
) -> Result<Vec<Option<(u64, RunId)>>, StoreError> {
    let mut question = redis::cmd("ZREVRANGEBYSCORE");
    question.arg(RUNS).arg(newest).arg("-inf").arg("WITHSCORES");
    question.arg("LIMIT").arg(offset).arg(LIST_SCAN);
    let members = reply::items(listing.ask_list(question).await?)?;
    let pairs = members.chunks_exact(2).map(|pair| {
        let score = reply::score(&pair[1])?;
        Ok(run_of(&pair[0]).map(|run| (score, run)))
    });
    pairs.collect()
}

/// Takes runs that are forgotten off the list. Each call looks at the next few, from `at` on, round and round.
pub(super) async fn sweep(listing: &impl Listing, at: &AtomicUsize) -> Result<(), StoreError> {
    let from = at.load(Ordering::Relaxed);
    let mut question = redis::cmd("ZRANGE");
    question.arg(RUNS).arg(from).arg(from + SWEEP_RUNS - 1);
    let members = reply::items(listing.ask_list(question).await?)?;
    let runs: Vec<RunId> = members.iter().filter_map(run_of).collect();
    let removed = listing.forget(&runs).await?;
    let next = if members.len() < SWEEP_RUNS { 0 } else { from + SWEEP_RUNS - removed };
    at.store(next, Ordering::Relaxed);
    Ok(())
}

/// Those of the runs that are not listed.
pub(super) async fn unlisted(
    listing: &impl Listing,
    runs: Vec<RunId>,
) -> Result<Vec<RunId>, StoreError> {
    if runs.is_empty() {
        return Ok(runs);
    }
    let mut question = redis::cmd("ZMSCORE");
    question.arg(RUNS);
    for run in &runs {
        question.arg(run.as_str());
    }
    let scores = reply::items(listing.ask_list(question).await?)?;
    let unlisted = runs.into_iter().zip(scores).filter(|(_, score)| *score == Value::Nil);
    let unlisted: Vec<RunId> = unlisted.map(|(run, _)| run).collect();
    listing.are_unlisted(&unlisted);
    Ok(unlisted)
}

fn run_of(member: &Value) -> Option<RunId> {
    RunId::parse(reply::text(member).ok()?).ok()
}
