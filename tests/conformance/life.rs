//! The life of a run: how it stands, how it ends, expires, is forgotten, is deleted and comes back.

use super::publishing::{Writer, keyed, of_type, run_id};
use super::reading::{all, info, numbers, until_run_is, until_the_clock_moves_on};
use super::{Bench, Store, rules};
use runhub::event::{EventType, LifecycleRules, RunId, RunStatus, Sequence, Timestamp};
use runhub::store::{PublishOutcome, RunInfo, RunState, StoreRules};
use std::time::{Duration, Instant};

on_every_store!(
    a_run_that_never_was_is_unknown,
    a_run_tells_how_it_stands,
    a_terminal_event_ends_a_run,
    a_started_event_takes_an_end_back,
    another_type_can_end_a_run,
    an_expiry_can_be_put_off,
    a_run_expires,
    a_run_can_expire_at_once,
    an_expired_run_lives_again_without_its_old_events,
    an_ended_run_that_expired_lives_again_for_another_while,
    a_forgotten_run_begins_anew,
    a_deleted_run_begins_anew,
    a_refused_publish_makes_no_run,
    a_refused_publish_revives_no_run,
    a_sweep_leaves_what_lives,
);

/// When runs of these checks expire.
const SOON: Duration = Duration::from_millis(200);
/// Stores count whole milliseconds, so that a run may be gone by a part of one too early.
const GRAIN: Duration = Duration::from_millis(1);

/// Lets a run expire and waits until it has.
async fn expire(store: &Store, run: &RunId) {
    let began = Instant::now();
    match store.set_expiry(run, SOON).await.unwrap() {
        RunState::Known(info) => assert!(info.expires_in.is_some_and(|left| left <= SOON)),
        other => panic!("{other:?}"),
    }
    until_run_is(store, run, &RunState::Expired).await;
    assert!(began.elapsed() + GRAIN >= SOON, "expired after {:?}", began.elapsed());
}

/// Whether a time left is this long, but for what has passed since.
fn is_about(left: Option<Duration>, whole: Duration) -> bool {
    left.is_some_and(|left| left <= whole && left + Duration::from_secs(60) > whole)
}

async fn a_run_that_never_was_is_unknown(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
    assert_eq!(store.set_expiry(&run, SOON).await.unwrap(), RunState::Unknown);
    assert!(!store.delete(&run).await.unwrap());
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
}

async fn a_run_tells_how_it_stands(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let began = Timestamp::now().as_ms();
    let placed = writer.publish_numbers(1..=3).await;
    let first = info(&store, &run).await;
    let expected = RunInfo {
        status: RunStatus::Running,
        length: 3,
        first_id: Some(placed[0].id),
        last_id: placed[2].id,
        last_sequence: Some(Sequence(3)),
        created_ms: first.created_ms,
        updated_ms: first.updated_ms,
        ended_ms: None,
        expires_in: None,
    };
    assert_eq!(first, expected);
    assert!(began <= first.created_ms && first.created_ms <= first.updated_ms);
    until_the_clock_moves_on().await;
    let placed = writer.publish_numbers(4..=5).await;
    let second = info(&store, &run).await;
    let expected = RunInfo {
        length: 5,
        last_id: placed[1].id,
        last_sequence: Some(Sequence(5)),
        updated_ms: second.updated_ms,
        ..first.clone()
    };
    assert_eq!(second, expected);
    assert!(first.updated_ms < second.updated_ms);
    assert!(second.updated_ms <= Timestamp::now().as_ms());
}

async fn a_terminal_event_ends_a_run(bench: Bench) {
    let (rules, store) = (rules(), bench.open(rules()));
    for (kind, status) in [
        ("lifecycle.completed", RunStatus::Completed),
        ("lifecycle.failed", RunStatus::Failed),
        ("lifecycle.cancelled", RunStatus::Cancelled),
        ("lifecycle.finish", RunStatus::Finished),
    ] {
        let run = run_id(kind);
        let mut writer = Writer::new(&store, &run);
        writer.publish_numbers(1..=2).await;
        writer.publish_one(of_type(&run, kind)).await;
        let ended = info(&store, &run).await;
        assert_eq!((ended.status, ended.ended_ms), (status, Some(ended.updated_ms)), "{kind}");
        assert!(is_about(ended.expires_in, rules.after_end), "{ended:?}");
        // What comes late changes nothing of that.
        until_the_clock_moves_on().await;
        writer.publish_numbers(3..=3).await;
        let later = info(&store, &run).await;
        assert_eq!((later.status, later.ended_ms), (status, ended.ended_ms), "{kind}");
        assert!(later.expires_in <= ended.expires_in);
        assert!(is_about(later.expires_in, rules.after_end), "{later:?}");
    }
}

async fn a_started_event_takes_an_end_back(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    for end in ["lifecycle.completed", "lifecycle.failed"] {
        writer.publish_one(of_type(&run, end)).await;
        assert!(info(&store, &run).await.status.is_ended());
        writer.publish_one(of_type(&run, "lifecycle.started")).await;
        let info = info(&store, &run).await;
        assert_eq!(
            (info.status, info.ended_ms, info.expires_in),
            (RunStatus::Running, None, None),
            "after {end}"
        );
    }
    // Within one publish the last one counts.
    let kinds = ["lifecycle.started", "lifecycle.completed", "lifecycle.failed"];
    writer.publish(kinds.map(|kind| of_type(&run, kind)).into()).await;
    assert_eq!(info(&store, &run).await.status, RunStatus::Failed);
}

async fn another_type_can_end_a_run(bench: Bench) {
    let lifecycle = LifecycleRules::new(&[EventType::parse("job.done").unwrap()]);
    let (store, run) = (bench.open(StoreRules { lifecycle, ..rules() }), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(of_type(&run, "lifecycle.completed")).await;
    assert_eq!(info(&store, &run).await.status, RunStatus::Running);
    writer.publish_one(of_type(&run, "job.done")).await;
    assert_eq!(info(&store, &run).await.status, RunStatus::Finished);
}

async fn an_expiry_can_be_put_off(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=1).await;
    for seconds in [600, 3600, 1200] {
        let after = Duration::from_secs(seconds);
        let RunState::Known(told) = store.set_expiry(&run, after).await.unwrap() else {
            panic!("the run is there")
        };
        assert!(is_about(told.expires_in, after), "{told:?}");
        assert!(is_about(info(&store, &run).await.expires_in, after));
        assert_eq!((told.status, told.ended_ms), (RunStatus::Running, None));
    }
    // An event of no consequence leaves it as it is.
    writer.publish_numbers(2..=2).await;
    assert!(is_about(info(&store, &run).await.expires_in, Duration::from_secs(1200)));
}

async fn a_run_expires(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    Writer::new(&store, &run).publish_numbers(1..=3).await;
    expire(&store, &run).await;
    assert!(all(&store, &run).await.is_empty());
    assert_eq!(store.set_expiry(&run, rules().after_end).await.unwrap(), RunState::Expired);
    store.sweep().await.unwrap();
    assert_eq!(store.run(&run).await.unwrap(), RunState::Expired);
    assert!(store.delete(&run).await.unwrap());
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
}

async fn a_run_can_expire_at_once(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    Writer::new(&store, &run).publish_numbers(1..=3).await;
    store.set_expiry(&run, Duration::ZERO).await.unwrap();
    assert_eq!(store.run(&run).await.unwrap(), RunState::Expired);
    assert!(all(&store, &run).await.is_empty());
}

async fn an_expired_run_lives_again_without_its_old_events(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let old = writer.publish_numbers(1..=3).await;
    let before = info(&store, &run).await;
    expire(&store, &run).await;
    let new = writer.publish_numbers(4..=5).await;
    assert_eq!((new[0].sequence, new[1].sequence), (Sequence(4), Sequence(5)));
    assert!(new[0].id > old[2].id);
    assert_eq!(numbers(&all(&store, &run).await), [4, 5]);
    let again = info(&store, &run).await;
    let expected = RunInfo {
        length: 2,
        first_id: Some(new[0].id),
        last_id: new[1].id,
        last_sequence: Some(Sequence(5)),
        updated_ms: again.updated_ms,
        ..before
    };
    assert_eq!(again, expected);
    // Also where the old events were swept away before.
    expire(&store, &run).await;
    store.sweep().await.unwrap();
    writer.publish_numbers(6..=6).await;
    assert_eq!(numbers(&all(&store, &run).await), [6]);
    assert_eq!(info(&store, &run).await.last_sequence, Some(Sequence(6)));
}

async fn an_ended_run_that_expired_lives_again_for_another_while(bench: Bench) {
    let (rules, store, run) = (rules(), bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(of_type(&run, "lifecycle.completed")).await;
    expire(&store, &run).await;
    writer.publish_numbers(2..=2).await;
    let again = info(&store, &run).await;
    assert_eq!((again.status, again.length), (RunStatus::Completed, 1));
    assert!(is_about(again.expires_in, rules.after_end), "{again:?}");
}

async fn a_forgotten_run_begins_anew(bench: Bench) {
    let (tombstone, run) = (Duration::from_secs(1), run_id("r"));
    let store = bench.open(StoreRules { tombstone, ..rules() });
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(of_type(&run, "lifecycle.completed")).await;
    let began = Instant::now();
    store.set_expiry(&run, SOON).await.unwrap();
    until_run_is(&store, &run, &RunState::Unknown).await;
    assert!(began.elapsed() + GRAIN >= SOON + tombstone, "forgotten after {:?}", began.elapsed());
    // Redis lets go of a key in the millisecond behind the one it expires in.
    until_the_clock_moves_on().await;
    // Whether it was swept away by now or not.
    let placed = writer.publish_numbers(7..=7).await;
    assert_eq!(placed[0].sequence, Sequence(1));
    assert_eq!(numbers(&all(&store, &run).await), [7]);
    let anew = info(&store, &run).await;
    assert_eq!((anew.status, anew.length, anew.expires_in), (RunStatus::Running, 1, None));
    store.sweep().await.unwrap();
    assert_eq!(info(&store, &run).await, anew);
}

async fn a_deleted_run_begins_anew(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    writer.publish_one(of_type(&run, "lifecycle.failed")).await;
    assert!(store.delete(&run).await.unwrap());
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
    assert!(all(&store, &run).await.is_empty());
    assert!(!store.delete(&run).await.unwrap());
    let placed = writer.publish_numbers(7..=8).await;
    assert_eq!((placed[0].sequence, placed[1].sequence), (Sequence(1), Sequence(2)));
    assert_eq!(numbers(&all(&store, &run).await), [7, 8]);
    let anew = info(&store, &run).await;
    assert_eq!((anew.status, anew.length, anew.expires_in), (RunStatus::Running, 2, None));
}

async fn a_refused_publish_makes_no_run(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let events = vec![keyed(&run, "k", 1), keyed(&run, "k", 2)];
    let outcomes = Writer::new(&store, &run).append(vec![events]).await;
    assert_eq!(outcomes, [PublishOutcome::KeyReused { index: 1 }]);
    assert_eq!(store.run(&run).await.unwrap(), RunState::Unknown);
    assert!(store.runs(None, 10, None).await.unwrap().runs.is_empty());
}

async fn a_refused_publish_revives_no_run(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(keyed(&run, "k", 1)).await;
    expire(&store, &run).await;
    let outcomes = writer.append(vec![vec![keyed(&run, "k", 2)]]).await;
    assert_eq!(outcomes, [PublishOutcome::KeyReused { index: 0 }]);
    assert_eq!(store.run(&run).await.unwrap(), RunState::Expired);
}

async fn a_sweep_leaves_what_lives(bench: Bench) {
    let (store, alive, ended) = (bench.open(rules()), run_id("alive"), run_id("ended"));
    Writer::new(&store, &alive).publish_numbers(1..=3).await;
    let mut writer = Writer::new(&store, &ended);
    writer.publish_one(of_type(&ended, "lifecycle.completed")).await;
    let (before, events) = (info(&store, &alive).await, all(&store, &alive).await);
    store.sweep().await.unwrap();
    assert_eq!(info(&store, &alive).await, before);
    assert_eq!(all(&store, &alive).await, events);
    assert_eq!(info(&store, &ended).await.length, 1);
    assert_eq!(store.runs(None, 10, None).await.unwrap().runs.len(), 2);
}
