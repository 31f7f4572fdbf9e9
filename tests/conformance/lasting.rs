//! What outlives the store: it is closed and opened again in the same place.

use super::publishing::{Writer, keyed, numbered, of_type, run_id, send_again, send_anew};
use super::reading::{
    EVERYTHING, Follower, all, info, numbers, until, until_run_is, until_the_clock_moves_on,
};
use super::{Bench, on_runtime, rules};
use runhub::config::EmbeddedConfig;
use runhub::event::{EventId, Sequence};
use runhub::store::embedded::{EmbeddedStore, OpenError};
use runhub::store::{Placed, PublishOutcome, RunInfo, RunState, StoreRules};
use std::time::Duration;

on_lasting_stores!(
    everything_outlives_the_store,
    a_deleted_run_stays_deleted,
    a_run_that_began_anew_outlives_the_store,
    an_expiry_outlives_the_store,
    a_trimmed_run_stays_trimmed,
);

async fn everything_outlives_the_store(bench: Bench) {
    let run = run_id("r");
    let store = bench.open(rules());
    let mut writer = Writer::new(&store, &run);
    let first = writer.publish_one(keyed(&run, "k", 1)).await;
    writer.publish_numbers(2..=9).await;
    let end = writer.batch(vec![vec![of_type(&run, "lifecycle.completed")]]);
    send_anew(&store, &end).await;
    let (events, before) = (all(&store, &run).await, info(&store, &run).await);
    drop((writer, store));

    let store = bench.open(rules());
    assert_eq!(all(&store, &run).await, events);
    let after = info(&store, &run).await;
    assert!(after.expires_in.is_some() && after.expires_in <= before.expires_in);
    assert_eq!(RunInfo { expires_in: before.expires_in, ..after }, before);
    send_again(&store, &end).await;
    let mut writer = Writer::new(&store, &run);
    let again = writer.publish_one(keyed(&run, "k", 1)).await;
    assert_eq!(again, Placed { duplicate: true, ..first });
    let reused = writer.append(vec![vec![keyed(&run, "k", 2)]]).await;
    assert_eq!(reused, [PublishOutcome::KeyReused { index: 0 }]);
    let next = writer.publish_numbers(11..=11).await;
    assert_eq!(next[0].sequence, Sequence(11));
    assert!(next[0].id > before.last_id);
    let listed = store.runs(None, 10, None).await.unwrap().runs;
    assert_eq!(listed.iter().map(|(run, _)| run.as_str()).collect::<Vec<_>>(), ["r"]);
    let heard = Follower::new(&store, &run, EventId::START).events(11).await;
    assert_eq!(heard, all(&store, &run).await);
}

async fn a_deleted_run_stays_deleted(bench: Bench) {
    let (run, other) = (run_id("r"), run_id("other"));
    let store = bench.open(rules());
    Writer::new(&store, &other).publish_numbers(1..=1).await;
    Writer::new(&store, &run).publish_one(keyed(&run, "k", 1)).await;
    assert!(store.delete(&run).await.unwrap());
    drop(store);

    let store = bench.open(rules());
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
    let placed = Writer::new(&store, &run).publish_one(keyed(&run, "k", 2)).await;
    assert_eq!((placed.sequence, placed.duplicate), (Sequence(1), false));
    assert_eq!(numbers(&all(&store, &run).await), [2]);
    assert_eq!(numbers(&all(&store, &other).await), [1]);
}

async fn a_run_that_began_anew_outlives_the_store(bench: Bench) {
    let soon = Duration::from_millis(100);
    let (run, brief) = (run_id("r"), StoreRules { tombstone: soon, ..rules() });
    let store = bench.open(brief.clone());
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    store.set_expiry(&run, soon).await.unwrap();
    until_run_is(&store, &run, &RunState::Unknown).await;
    until_the_clock_moves_on().await;
    // The old run goes and the new one comes in one step.
    writer.publish_numbers(7..=8).await;
    let (events, before) = (all(&store, &run).await, info(&store, &run).await);
    assert_eq!((numbers(&events), before.length), (vec![7, 8], 2));
    drop((writer, store));

    let store = bench.open(brief);
    assert_eq!(all(&store, &run).await, events);
    assert_eq!(info(&store, &run).await, before);
}

async fn an_expiry_outlives_the_store(bench: Bench) {
    let run = run_id("r");
    let store = bench.open(rules());
    Writer::new(&store, &run).publish_numbers(1..=3).await;
    store.set_expiry(&run, Duration::from_millis(300)).await.unwrap();
    drop(store);

    let store = bench.open(rules());
    until_run_is(&store, &run, &RunState::Expired).await;
    drop(store);

    let store = bench.open(rules());
    assert_eq!(store.run(&run).await.unwrap(), RunState::Expired);
    assert!(store.range(&run, EVERYTHING).await.unwrap().events.is_empty());
    let placed = Writer::new(&store, &run).publish(numbered(&run, 4..=4)).await;
    assert_eq!(placed[0].sequence, Sequence(4));
    assert_eq!(numbers(&all(&store, &run).await), [4]);
}

async fn a_trimmed_run_stays_trimmed(bench: Bench) {
    let (run, few) = (run_id("r"), StoreRules { max_events: 100, ..rules() });
    let store = bench.open(few.clone());
    let mut writer = Writer::new(&store, &run);
    for first in (1..=500).step_by(50) {
        writer.publish_numbers(first..=first + 49).await;
    }
    let (events, before) = (all(&store, &run).await, info(&store, &run).await);
    assert!(before.length < 500);
    drop((writer, store));

    let store = bench.open(few);
    assert_eq!(all(&store, &run).await, events);
    assert_eq!(info(&store, &run).await, before);
}

#[test]
fn a_folder_that_is_open_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || EmbeddedStore::open(dir.path(), rules(), &EmbeddedConfig::default());
    let store = open().unwrap();
    assert!(matches!(open(), Err(OpenError::InUse(path)) if path == dir.path()));
    drop(store);
    assert!(open().is_ok());
}

#[test]
fn an_event_id_that_was_stored_anew_outlives_the_embedded_store() {
    on_runtime(async {
        let (bench, run) = (Bench::embedded(), run_id("r"));
        let store = bench.open(StoreRules { dedup_window: Duration::from_secs(1), ..rules() });
        let mut writer = Writer::new(&store, &run);
        writer.publish_one(keyed(&run, "k", 1)).await;
        // The old place leaves the window and the new one enters it in one step.
        let anew = until("the event_id is free again", async || {
            let placed = writer.publish_one(keyed(&run, "k", 1)).await;
            (!placed.duplicate).then_some(placed)
        })
        .await;
        drop((writer, store));

        // With a longer window, so that it does not matter how long the opening takes.
        let store = bench.open(rules());
        let again = Writer::new(&store, &run).publish_one(keyed(&run, "k", 1)).await;
        assert_eq!(again, Placed { duplicate: true, ..anew });
    });
}
