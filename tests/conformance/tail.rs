//! Following a run: nothing is missed, nothing comes twice, and a reset is said.

use super::publishing::{Writer, numbered, run_id};
use super::reading::{Follower, all, numbers, sequences};
use super::{Bench, rules};
use runhub::event::EventId;
use std::time::Duration;

on_every_store!(
    a_tail_gives_what_is_there_and_then_what_comes,
    a_tail_from_the_middle_begins_behind_it,
    a_tail_wakes_on_each_append,
    a_tail_of_a_long_run_gives_every_event_once,
    two_tails_of_one_run_hear_the_same,
    many_tails_each_hear_of_their_run,
    a_tail_waits_for_a_run_that_is_not_there_yet,
    a_tail_hears_that_its_run_was_deleted,
    a_tail_ahead_of_its_run_begins_anew,
);

async fn a_tail_gives_what_is_there_and_then_what_comes(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=5).await;
    let mut follower = Follower::new(&store, &run, EventId::START);
    let mut heard = follower.events(5).await;
    writer.publish_numbers(6..=7).await;
    heard.extend(follower.events(2).await);
    writer.publish_numbers(8..=8).await;
    heard.extend(follower.events(1).await);
    assert_eq!(heard, all(&store, &run).await);
}

async fn a_tail_from_the_middle_begins_behind_it(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let placed = writer.publish_numbers(1..=5).await;
    let mut middle = Follower::new(&store, &run, placed[2].id);
    let mut end = Follower::new(&store, &run, placed[4].id);
    assert_eq!(numbers(&middle.events(2).await), [4, 5]);
    writer.publish_numbers(6..=6).await;
    assert_eq!(numbers(&middle.events(1).await), [6]);
    assert_eq!(numbers(&end.events(1).await), [6]);
}

async fn a_tail_wakes_on_each_append(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let mut follower = Follower::new(&store, &run, EventId::START);
    let ten_times = async {
        for n in 1..=10 {
            let (heard, _) = tokio::join!(follower.events(1), writer.publish_numbers(n..=n));
            assert_eq!(numbers(&heard), [n]);
        }
    };
    // A tail that is not woken looks every two seconds, which would be too slow by far.
    tokio::time::timeout(Duration::from_secs(5), ten_times).await.expect("woken ten times");
}

async fn a_tail_of_a_long_run_gives_every_event_once(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    // More than a tail holds ready for a reader who is slow.
    for first in (1..=3000).step_by(500) {
        writer.publish_numbers(first..=first + 499).await;
    }
    let heard = Follower::new(&store, &run, EventId::START).events(3000).await;
    assert_eq!(sequences(&heard), (1..=3000).collect::<Vec<_>>());
    assert_eq!(numbers(&heard), (1..=3000).collect::<Vec<_>>());
}

async fn two_tails_of_one_run_hear_the_same(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let mut a = Follower::new(&store, &run, EventId::START);
    let mut b = Follower::new(&store, &run, EventId::START);
    let (heard_a, heard_b, _) =
        tokio::join!(a.events(3), b.events(3), writer.publish_numbers(1..=3));
    assert_eq!(heard_a, heard_b);
    // One that goes does not take the other with it.
    drop(a);
    writer.publish_numbers(4..=4).await;
    assert_eq!(numbers(&b.events(1).await), [4]);
}

async fn many_tails_each_hear_of_their_run(bench: Bench) {
    let store = bench.open(rules());
    let runs: Vec<_> = (1..=150).map(|n| run_id(&format!("run-{n}"))).collect();
    let mut followers: Vec<_> =
        runs.iter().map(|run| Follower::new(&store, run, EventId::START)).collect();
    let batches: Vec<_> = (1..)
        .zip(&runs)
        .map(|(n, run)| Writer::new(&store, run).batch(vec![numbered(run, n..=n)]))
        .collect();
    assert!(store.append(&batches).await.iter().all(Result::is_ok));
    for ((n, run), follower) in (1..).zip(&runs).zip(&mut followers) {
        let heard = follower.events(1).await;
        assert_eq!((numbers(&heard), &heard[0].event.run_id), (vec![n], run));
    }
}

async fn a_tail_waits_for_a_run_that_is_not_there_yet(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut follower = Follower::new(&store, &run, EventId::START);
    let publish = async {
        // Another run's event is not this one's.
        Writer::new(&store, &run_id("other")).publish_numbers(9..=9).await;
        Writer::new(&store, &run).publish_numbers(1..=2).await;
    };
    let (heard, ()) = tokio::join!(follower.events(2), publish);
    assert_eq!(numbers(&heard), [1, 2]);
}

async fn a_tail_hears_that_its_run_was_deleted(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    let mut follower = Follower::new(&store, &run, EventId::START);
    follower.events(3).await;
    assert!(store.delete(&run).await.unwrap());
    follower.expect_reset().await;
    writer.publish_numbers(7..=8).await;
    let heard = follower.events(2).await;
    assert_eq!((numbers(&heard), sequences(&heard)), (vec![7, 8], vec![1, 2]));
}

async fn a_tail_ahead_of_its_run_begins_anew(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let placed = writer.publish_numbers(1..=3).await;
    // As after a roll-back: the reader has seen events that are no more.
    let ahead = EventId::new(placed[2].id.ms + 3_600_000, 0);
    let mut follower = Follower::new(&store, &run, ahead);
    follower.expect_reset().await;
    assert_eq!(numbers(&follower.events(3).await), [1, 2, 3]);
    writer.publish_numbers(4..=4).await;
    assert_eq!(numbers(&follower.events(1).await), [4]);
}
