//! A store that several hubs share: Redis.

use super::event_ids::one_of_sixteen_is_stored;
use super::publishing::{Writer, numbered, run_id, send_again, send_anew};
use super::reading::{Follower, all, numbers, sequences};
use super::{Bench, rules};
use runhub::event::EventId;
use tokio::task::JoinSet;

on_stores!(
    [redis, redis_cluster],
    [
        two_hubs_store_an_event_id_once,
        two_hubs_number_one_run,
        a_batch_is_known_also_after_another_hub_wrote,
        a_tail_hears_what_another_hub_wrote
    ]
);

async fn two_hubs_store_an_event_id_once(bench: Bench) {
    let hubs = [bench.open(rules()), bench.open(rules())];
    one_of_sixteen_is_stored(&hubs, &run_id("r")).await;
}

async fn two_hubs_number_one_run(bench: Bench) {
    let (hubs, run) = ([bench.open(rules()), bench.open(rules())], run_id("r"));
    let mut tasks = JoinSet::new();
    for hub in &hubs {
        let mut writer = Writer::new(hub, &run);
        tasks.spawn(async move {
            for n in 1..=50 {
                writer.publish_numbers(n..=n).await;
            }
        });
    }
    tasks.join_all().await;
    let events = all(&hubs[0], &run).await;
    assert_eq!(sequences(&events), (1..=100).collect::<Vec<_>>());
    assert_eq!(all(&hubs[1], &run).await, events);
}

async fn a_batch_is_known_also_after_another_hub_wrote(bench: Bench) {
    let (a, b, run) = (bench.open(rules()), bench.open(rules()), run_id("r"));
    let batch = Writer::new(&a, &run).batch(vec![numbered(&run, 1..=1)]);
    send_anew(&a, &batch).await;
    Writer::new(&b, &run).publish_numbers(2..=2).await;
    send_again(&a, &batch).await;
    assert_eq!(numbers(&all(&a, &run).await), [1, 2]);
}

async fn a_tail_hears_what_another_hub_wrote(bench: Bench) {
    let (a, b, run) = (bench.open(rules()), bench.open(rules()), run_id("r"));
    let mut follower = Follower::new(&a, &run, EventId::START);
    let mut writer = Writer::new(&b, &run);
    let (heard, _) = tokio::join!(follower.events(2), writer.publish_numbers(1..=2));
    assert_eq!(numbers(&heard), [1, 2]);
}
