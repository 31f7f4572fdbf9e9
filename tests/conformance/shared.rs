//! A store that other programs write to, empty and roll back: Redis.

use super::list::{make, many};
use super::publishing::{Writer, run_id};
use super::reading::{Follower, all, info, numbers, sequences};
use super::{Bench, rules};
use runhub::event::{EventId, Sequence};

on_redis!(
    what_a_foreign_program_wrote_is_counted_in,
    a_name_that_others_put_on_the_list_hides_no_run,
    a_tail_hears_that_the_server_was_emptied,
    a_tail_hears_that_its_stream_was_removed,
    a_tail_hears_that_its_stream_was_rolled_back,
);

/// The stream of the run `r`.
const STREAM: &str = "run:r:events";

async fn what_a_foreign_program_wrote_is_counted_in(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let fields: [(&str, &[u8]); 4] = [
        ("sequence", b"41"),
        ("event_category", b"llm"),
        ("event_action", b"stream"),
        ("data", b"1"),
    ];
    let id = EventId::parse(&bench.server().xadd(STREAM, &fields)).unwrap();
    let seen = info(&store, &run).await;
    assert_eq!((seen.length, seen.last_id, seen.last_sequence), (1, id, Some(Sequence(41))));
    let placed = Writer::new(&store, &run).publish_numbers(2..=2).await;
    assert_eq!(placed[0].sequence, Sequence(42));
    assert_eq!(numbers(&all(&store, &run).await), [1, 2]);
    assert_eq!(store.runs(None, 10, None).await.unwrap().runs.len(), 1);
}

async fn a_name_that_others_put_on_the_list_hides_no_run(bench: Bench) {
    let store = bench.open(rules());
    make(&store, &many()).await;
    let () = bench.server().command(&["ZADD", "runs", "9000000000000", "no run's name"]);
    let page = store.runs(None, 300, None).await.unwrap();
    assert_eq!(page.runs.len(), many().len());
}

async fn a_tail_hears_that_the_server_was_emptied(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    let mut follower = Follower::new(&store, &run, EventId::START);
    follower.events(3).await;
    bench.server().command::<String>(&["FLUSHALL"]);
    follower.expect_reset().await;
    writer.publish_numbers(7..=8).await;
    let heard = follower.events(2).await;
    assert_eq!((numbers(&heard), sequences(&heard)), (vec![7, 8], vec![1, 2]));
}

async fn a_tail_hears_that_its_stream_was_removed(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    let mut follower = Follower::new(&store, &run, EventId::START);
    follower.events(3).await;
    assert_eq!(bench.server().command::<u64>(&["DEL", STREAM]), 1);
    follower.expect_reset().await;
    writer.publish_numbers(7..=7).await;
    assert_eq!(numbers(&follower.events(1).await), [7]);
}

async fn a_tail_hears_that_its_stream_was_rolled_back(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_numbers(1..=3).await;
    let mut follower = Follower::new(&store, &run, EventId::START);
    follower.events(3).await;
    let server = bench.server();
    assert_eq!(server.command::<u64>(&["DEL", STREAM]), 1);
    server.command::<String>(&["XADD", STREAM, "5-1", "data", "17"]);
    follower.expect_reset().await;
    let heard = follower.events(1).await;
    assert_eq!((heard[0].id, numbers(&heard)), (EventId::new(5, 1), vec![17]));
    writer.publish_numbers(18..=18).await;
    assert_eq!(numbers(&follower.events(1).await), [18]);
}
