//! Following a job: its stream may give way to the run's own between a reader's question and its tail.

use super::publishing::{Writer, run_id};
use super::reading::{Follower, info, numbers};
use super::{Bench, rules};

on_redis_with_jobs!(
    a_tail_behind_a_jobs_event_hears_of_the_runs_own_stream,
    a_tail_behind_a_jobs_event_goes_on_in_the_job,
    a_tail_of_a_run_goes_on_in_its_own_stream,
    a_tail_of_a_run_that_was_trimmed_goes_on_too,
);

fn add_to_the_job(bench: &Bench, number: &str) {
    bench.server().xadd("job:7", &[("event_type", b"task_progress"), ("data", number.as_bytes())]);
}

async fn a_tail_behind_a_jobs_event_hears_of_the_runs_own_stream(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("7"));
    add_to_the_job(&bench, "1");
    let position = info(&store, &run).await.last_id;
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(7..=8).await;
    let mut follower = Follower::new(&store, &run, position);
    follower.expect_reset().await;
    assert_eq!(numbers(&follower.events(2).await), [7, 8]);
    writer.publish_numbers(9..=9).await;
    assert_eq!(numbers(&follower.events(1).await), [9]);
}

async fn a_tail_behind_a_jobs_event_goes_on_in_the_job(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("7"));
    add_to_the_job(&bench, "1");
    let position = info(&store, &run).await.last_id;
    add_to_the_job(&bench, "2");
    let mut follower = Follower::new(&store, &run, position);
    let heard = follower.events(1).await;
    assert_eq!(&*heard[0].event.data, "2");
}

async fn a_tail_of_a_run_goes_on_in_its_own_stream(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("7"));
    let placed = Writer::new(&store, &run).publish_numbers(1..=3).await;
    let mut follower = Follower::new(&store, &run, placed[0].id);
    assert_eq!(numbers(&follower.events(2).await), [2, 3]);
}

async fn a_tail_of_a_run_that_was_trimmed_goes_on_too(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("7"));
    let placed = Writer::new(&store, &run).publish_numbers(1..=5).await;
    let trimmed: i64 = bench.server().command(&["XTRIM", "run:7:events", "MAXLEN", "2"]);
    assert_eq!(trimmed, 3);
    // Its readers are told of what they missed by the hub, which sees the numbers.
    let mut follower = Follower::new(&store, &run, placed[0].id);
    assert_eq!(numbers(&follower.events(2).await), [4, 5]);
}
