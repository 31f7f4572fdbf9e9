//! The list of runs: newest activity first, in pages, by status.

use super::publishing::{Writer, numbered, of_type, run_id};
use super::reading::{info, until_run_is, until_the_clock_moves_on};
use super::{Bench, Store, rules};
use runhub::event::{RunId, RunStatus};
use runhub::store::{RunInfo, RunState};
use std::collections::BTreeSet;
use std::time::Duration;

on_every_store!(
    the_newest_activity_comes_first,
    walking_the_pages_gives_every_run_once,
    a_status_picks_runs_however_many_others_there_are,
    runs_that_are_gone_are_not_listed,
);

/// Every run listed, read in pages of this many.
async fn walk(store: &Store, limit: usize, status: Option<RunStatus>) -> Vec<(RunId, RunInfo)> {
    let (mut runs, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.runs(cursor.as_ref(), limit, status).await.unwrap();
        assert!(page.runs.len() <= limit, "{} runs", page.runs.len());
        runs.extend(page.runs);
        assert!(runs.len() <= 1000, "the walk goes round in circles");
        match page.next {
            Some(next) => cursor = Some(next),
            None => return runs,
        }
    }
}

async fn names(store: &Store, status: Option<RunStatus>) -> Vec<String> {
    let page = store.runs(None, 10, status).await.unwrap();
    page.runs.iter().map(|(run, _)| run.to_string()).collect()
}

/// Makes runs of one event each, all in one call.
pub(super) async fn make(store: &Store, runs: &[RunId]) {
    let batches: Vec<_> =
        runs.iter().map(|run| Writer::new(store, run).batch(vec![numbered(run, 1..=1)])).collect();
    assert!(store.append(&batches).await.iter().all(Result::is_ok));
}

/// More runs than one step of the list looks at.
pub(super) fn many() -> Vec<RunId> {
    (1..=250).map(|n| run_id(&format!("run-{n}"))).collect()
}

async fn the_newest_activity_comes_first(bench: Bench) {
    let store = bench.open(rules());
    for name in ["b", "c", "a"] {
        make(&store, &[run_id(name)]).await;
        until_the_clock_moves_on().await;
    }
    assert_eq!(names(&store, None).await, ["a", "c", "b"]);
    make(&store, &[run_id("c")]).await;
    until_the_clock_moves_on().await;
    assert_eq!(names(&store, None).await, ["c", "a", "b"]);
    // An expiry is no activity.
    store.set_expiry(&run_id("b"), Duration::from_secs(600)).await.unwrap();
    let page = store.runs(None, 10, None).await.unwrap();
    assert_eq!(page.runs[2].0, run_id("b"));
    for (run, listed) in page.runs.iter().take(2) {
        assert_eq!(*listed, info(&store, run).await);
    }
}

async fn walking_the_pages_gives_every_run_once(bench: Bench) {
    let store = bench.open(rules());
    // Made in one call, many of them have their activity in the same millisecond.
    make(&store, &many()).await;
    for limit in [60, 250, 300] {
        let walked = walk(&store, limit, None).await;
        assert!(walked.is_sorted_by(|(_, a), (_, b)| a.updated_ms >= b.updated_ms));
        let found: BTreeSet<RunId> = walked.iter().map(|(run, _)| run.clone()).collect();
        let made: BTreeSet<RunId> = many().into_iter().collect();
        assert_eq!((walked.len(), found), (made.len(), made));
    }
}

async fn a_status_picks_runs_however_many_others_there_are(bench: Bench) {
    let store = bench.open(rules());
    let ended = run_id("ended");
    Writer::new(&store, &ended).publish_one(of_type(&ended, "lifecycle.completed")).await;
    until_the_clock_moves_on().await;
    make(&store, &many()).await;
    assert_eq!(names(&store, Some(RunStatus::Completed)).await, ["ended"]);
    assert!(names(&store, Some(RunStatus::Failed)).await.is_empty());
    let running = walk(&store, 100, Some(RunStatus::Running)).await;
    assert_eq!(running.len(), 250);
    assert!(running.iter().all(|(_, info)| info.status == RunStatus::Running));
    // A status that changes is found under its new name only.
    Writer::new(&store, &ended).publish_one(of_type(&ended, "lifecycle.failed")).await;
    assert!(names(&store, Some(RunStatus::Completed)).await.is_empty());
    assert_eq!(names(&store, Some(RunStatus::Failed)).await, ["ended"]);
}

async fn runs_that_are_gone_are_not_listed(bench: Bench) {
    let store = bench.open(rules());
    assert!(store.runs(None, 10, None).await.unwrap().runs.is_empty());
    let [kept, deleted, expired] = ["kept", "deleted", "expired"].map(run_id);
    make(&store, &[kept, deleted.clone(), expired.clone()]).await;
    assert!(store.delete(&deleted).await.unwrap());
    store.set_expiry(&expired, Duration::from_millis(100)).await.unwrap();
    until_run_is(&store, &expired, &RunState::Expired).await;
    assert_eq!(names(&store, None).await, ["kept"]);
    store.sweep().await.unwrap();
    assert_eq!(names(&store, None).await, ["kept"]);
    // Who comes back is listed again, once.
    make(&store, &[deleted, expired]).await;
    assert_eq!(walk(&store, 10, None).await.len(), 3);
}
