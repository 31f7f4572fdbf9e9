//! Panics of real actors under load: healed within moments, nothing lost and nothing twice.

mod near;

use super::registry::At;
use super::subscriber::FromRun;
use super::{Ack, Hub, Item, Published, SubscribeOptions, Subscription};
use crate::config::Config;
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{EventId, EventType, NewEvent, RunId, Timestamp, Upcasters, Version};
use crate::spool::Spool;
use crate::store::memory::MemoryStore;
use crate::store::{Publish, RangeRequest, RunAppend, StoreRules};
use actix::Message;
use std::future::poll_fn;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Makes an actor panic.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Crash;

/// Makes an actor stuck until the other end of the channel is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stall(mpsc::Receiver<()>);

impl Stall {
    fn new() -> (Self, mpsc::Sender<()>) {
        let (release, stalled) = mpsc::channel();
        (Self(stalled), release)
    }

    pub(super) fn wait(self) {
        let _ = self.0.recv();
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn in_system(test: impl AsyncFnOnce(Hub)) {
    in_system_with(Upcasters::default(), test);
}

/// A hub on a store in memory, and the folder of its spool.
fn hub(upcasters: Upcasters) -> (Hub, tempfile::TempDir) {
    hub_with(Config::default(), upcasters)
}

fn hub_with(mut config: Config, upcasters: Upcasters) -> (Hub, tempfile::TempDir) {
    config.subscribe.idle_grace = Duration::from_millis(50);
    // A test may be held up; no publish is to fail for that.
    config.publish.timeout = PATIENCE;
    let rules = StoreRules::new(&config.retention, config.publish.dedup_window);
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1 << 30, 1 << 26).unwrap();
    let store = Arc::new(MemoryStore::new(rules));
    (Hub::start_with(config, store, spool, upcasters), dir)
}

fn in_system_with(upcasters: Upcasters, test: impl AsyncFnOnce(Hub)) {
    in_system_of(|| hub(upcasters), test);
}

fn in_system_of(hub: impl FnOnce() -> (Hub, tempfile::TempDir), test: impl AsyncFnOnce(Hub)) {
    actix::System::new().block_on(async {
        let (hub, _dir) = hub();
        tokio::time::timeout(PATIENCE * 2, test(hub)).await.expect("the test ends in time");
    });
}

fn run_id() -> RunId {
    RunId::parse("r").unwrap()
}

fn event(number: usize) -> NewEvent {
    let json = format!(r#"{{"type":"a.b","data":{number}}}"#);
    let limits = EventLimits { max_data: 1 << 20 };
    NewEvent::new(parse_event(&run_id(), &json, Timestamp::now(), limits).unwrap())
}

async fn publish(hub: &Hub, number: usize) {
    let published = hub.publish(&run_id(), vec![event(number)], Ack::Persisted).await;
    assert!(matches!(published, Ok(Published::Persisted(_))), "{published:?}");
}

/// The `data` of the event in a frame, if it is one.
fn number_in(frame: &str) -> Option<usize> {
    let (_, data) = frame.split_once(r#""data":"#)?;
    let digits = data.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    Some(digits.parse().unwrap())
}

/// All that a stream still has, up to its end.
async fn rest_of(mut stream: Subscription) -> String {
    let mut left = String::new();
    while let Some(item) = poll_fn(|cx| stream.poll_next(cx)).await {
        let Item::Bytes(bytes) = item else { panic!("it was asked for bytes") };
        left.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    left
}

/// The `data` of the next `count` events of a stream.
async fn numbers(stream: &mut Subscription, count: usize) -> Vec<usize> {
    let (mut seen, mut text) = (Vec::new(), String::new());
    while seen.len() < count {
        let item = poll_fn(|cx| stream.poll_next(cx)).await.expect("the stream goes on");
        let Item::Bytes(bytes) = item else { panic!("it was asked for bytes") };
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some((frame, rest)) = text.split_once("\n\n") {
            seen.extend(number_in(frame));
            text = rest.to_owned();
        }
    }
    seen
}

async fn stored(hub: &Hub) -> Vec<(u64, usize)> {
    let request = RangeRequest::after(EventId::START, usize::MAX, usize::MAX);
    let page = hub.range(&run_id(), request).await.unwrap();
    let pair =
        |e: &crate::event::StoredEvent| (e.sequence.unwrap().0, e.event.data.parse().unwrap());
    page.events.iter().map(pair).collect()
}

async fn subscribe(hub: &Hub) -> Subscription {
    hub.subscribe(&run_id(), SubscribeOptions::default()).await.unwrap()
}

#[test]
fn a_writer_that_dies_loses_and_doubles_nothing() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        for number in 0..120 {
            if number % 30 == 5 {
                hub.core.writer(&run_id()).send_writer(Crash);
            }
            publish(&hub, number).await;
        }
        assert_eq!(numbers(&mut stream, 120).await, (0..120).collect::<Vec<_>>());
        assert_eq!(stored(&hub).await, (1..=120).zip(0..).collect::<Vec<_>>());
    });
}

#[test]
fn a_run_actor_that_dies_is_replaced_and_its_readers_go_on() {
    in_system(async |hub| {
        let (mut first, mut second) = (subscribe(&hub).await, subscribe(&hub).await);
        for number in 0..120 {
            if number % 20 == 10 {
                hub.core.registry.send_run(&run_id(), Crash);
            }
            publish(&hub, number).await;
        }
        for stream in [&mut first, &mut second] {
            assert_eq!(numbers(stream, 120).await, (0..120).collect::<Vec<_>>());
        }
        assert_eq!(hub.subscribers(&run_id()), 2);
    });
}

#[test]
fn what_is_trimmed_while_a_run_actor_is_replaced_is_said() {
    let mut config = Config::default();
    config.retention.max_events = 10;
    in_system_of(
        || hub_with(config, Upcasters::default()),
        async |hub| {
            for number in 0..3 {
                publish(&hub, number).await;
            }
            let mut stream = subscribe(&hub).await;
            assert_eq!(numbers(&mut stream, 3).await, [0, 1, 2]);
            let is_looked_up = || {
                let reached = hub.core.registry.reached(&run_id());
                reached.is_some_and(|reached| reached.at != At::Unknown)
            };
            while !is_looked_up() {
                tokio::task::yield_now().await;
            }
            let (stall, release) = Stall::new();
            hub.core.registry.send_run(&run_id(), stall);
            // By another hub.
            let publishes = vec![Publish::now(1, (3..23).map(event).collect(), false)];
            let append = RunAppend { run: run_id(), writer: 7, publishes };
            assert!(hub.core.store.append(&[append]).await.iter().all(Result::is_ok));
            hub.core.registry.send_run(&run_id(), Crash);
            drop(release);
            let mut text = String::new();
            while !text.contains(r#""data":22"#) {
                let item = poll_fn(|cx| stream.poll_next(cx)).await.expect("the stream goes on");
                let Item::Bytes(bytes) = item else { panic!("it was asked for bytes") };
                text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            let gap = text.find("event: gap").expect("what is missing is said");
            assert!(
                text[gap..].contains(r#""reason":"trimmed""#)
                    && text[gap..].contains(r#""missed":10"#),
                "{text}"
            );
            assert!(gap < text.find(r#""data":13"#).unwrap(), "{text}");
        },
    );
}

#[test]
fn a_subscriber_that_dies_is_replaced_where_it_stopped() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        let mut seen = Vec::new();
        for number in 0..60 {
            publish(&hub, number).await;
            if number % 7 == 3 {
                stream.crash();
            }
            if number % 5 == 0 {
                seen.extend(numbers(&mut stream, 1).await);
            }
        }
        publish(&hub, 60).await;
        let left = 61 - seen.len();
        seen.extend(numbers(&mut stream, left).await);
        assert_eq!(seen, (0..=60).collect::<Vec<_>>());
        // The last event may have come without the actor; one that died is replaced when the stream is polled.
        while hub.subscribers(&run_id()) != 1 {
            let more = poll_fn(|cx| stream.poll_next(cx));
            assert!(tokio::time::timeout(Duration::from_millis(1), more).await.is_err());
        }
    });
}

#[test]
fn a_supervisor_that_dies_is_replaced_and_supervises() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        let current = || hub.core.supervisor.lock().actor.clone().unwrap();
        let before = current();
        before.do_send(Crash);
        while before.connected() || !current().connected() {
            tokio::task::yield_now().await;
        }
        hub.core.writer(&run_id()).send_writer(Crash);
        hub.core.registry.send_run(&run_id(), Crash);
        publish(&hub, 1).await;
        assert_eq!(numbers(&mut stream, 2).await, [0, 1]);
    });
}

#[test]
fn actors_that_are_stuck_are_replaced_and_their_readers_go_on() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        let (stall, release_writer) = Stall::new();
        hub.core.writer(&run_id()).send_writer(stall);
        publish(&hub, 1).await;
        assert_eq!(numbers(&mut stream, 2).await, [0, 1]);
        let (stall, release_run) = Stall::new();
        hub.core.registry.send_run(&run_id(), stall);
        publish(&hub, 2).await;
        assert_eq!(numbers(&mut stream, 1).await, [2]);
        // Only now may those that were stuck go on, and find that they are no longer needed.
        drop((release_writer, release_run));
        for number in 3..60 {
            publish(&hub, number).await;
        }
        assert_eq!(numbers(&mut stream, 57).await, (3..60).collect::<Vec<_>>());
        assert_eq!(stored(&hub).await, (1..=60).zip(0..).collect::<Vec<_>>());
    });
}

#[test]
fn a_supervisor_that_is_stuck_is_replaced_and_supervises() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        let before = hub.core.supervisor.lock().actor.clone().unwrap();
        let (stall, release) = Stall::new();
        before.do_send(stall);
        hub.core.writer(&run_id()).send_writer(Crash);
        hub.core.registry.send_run(&run_id(), Crash);
        publish(&hub, 1).await;
        assert_eq!(numbers(&mut stream, 2).await, [0, 1]);
        drop(release);
        publish(&hub, 2).await;
        assert_eq!(numbers(&mut stream, 1).await, [2]);
        assert_ne!(hub.core.supervisor.lock().actor.as_ref(), Some(&before));
    });
}

#[test]
fn a_run_without_readers_is_let_go_and_taken_up_again() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        assert_eq!(numbers(&mut stream, 1).await, [0]);
        drop(stream);
        while hub.core.registry.is_followed(&run_id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut stream = subscribe(&hub).await;
        publish(&hub, 1).await;
        assert_eq!(numbers(&mut stream, 2).await, [0, 1]);
    });
}

#[test]
fn older_data_becomes_todays_for_readers_of_the_past_and_of_now_and_stays_as_stored() {
    let kind = EventType::parse("a.b").unwrap();
    let upcasters = Upcasters::default().with(&kind, Version::FIRST, |data| {
        Ok((data.as_u64().ok_or("it is no number")? + 100).into())
    });
    in_system_with(upcasters, async |hub| {
        publish(&hub, 0).await;
        publish(&hub, 1).await;
        let mut stream = subscribe(&hub).await;
        assert_eq!(numbers(&mut stream, 2).await, [100, 101]);
        publish(&hub, 2).await;
        assert_eq!(numbers(&mut stream, 1).await, [102]);
        assert_eq!(stored(&hub).await, [(1, 0), (2, 1), (3, 2)]);
    });
}

#[test]
fn a_program_publishes_and_follows_without_http() {
    use crate::event::Event;
    use crate::event::typed::{KnownEvent, LlmStream, Typed};
    use crate::hub::{Followed, JobPublisher, Publish, PublishError};
    use futures::StreamExt;
    in_system(async |hub| {
        let mut events = hub.follow(&run_id(), SubscribeOptions::default()).await.unwrap();
        let publisher = hub.publisher();
        for number in 0..20 {
            let event = LlmStream::new(number.to_string()).event(&run_id());
            publisher.do_send(Publish::one(event));
        }
        let last = Publish::one(LlmStream::new("last").event(&run_id()));
        let published = publisher.send(last).await.unwrap();
        assert!(matches!(published, Ok(Published::Persisted(_))), "{published:?}");
        let mut texts = Vec::new();
        while texts.len() < 21 {
            let Some(Followed::Event(stored)) = events.next().await else { panic!("an event") };
            assert_eq!(stored.sequence.unwrap().0, texts.len() as u64 + 1);
            let Typed::LlmStream(delta) = stored.event.typed().unwrap() else { panic!("a delta") };
            texts.push(delta.text().to_owned());
        }
        let expected = (0..20).map(|n| n.to_string()).chain(["last".to_owned()]);
        assert_eq!(texts, expected.collect::<Vec<_>>());
        let job = JobPublisher::new(&hub, run_id());
        job.progress("outline", 0.5).await.unwrap();
        let Some(Followed::Event(stored)) = events.next().await else { panic!("an event") };
        assert_eq!(stored.event.kind.as_str(), "task.progress");
        // Whatever no publisher could send is refused here as well.
        let good = LlmStream::new("x").event(&run_id());
        let other = RunId::parse("other").unwrap();
        for (run, bad) in [
            (&other, good.clone()),
            (&run_id(), Event { data: "no JSON".into(), ..good.clone() }),
            (
                &run_id(),
                Event { data: format!("\"{}\"", "x".repeat(2 << 20)).into(), ..good.clone() },
            ),
            (&run_id(), good.clone().with_trace_id("x".repeat(80_000))),
        ] {
            let refused = hub.publish_events(run, [good.clone(), bad], Ack::Persisted).await;
            let index = if *run == other { 0 } else { 1 };
            assert!(
                matches!(&refused, Err(PublishError::Invalid { index: i, .. }) if *i == index),
                "{refused:?}"
            );
        }
        let request = RangeRequest::after(EventId::START, usize::MAX, usize::MAX);
        assert_eq!(hub.range(&run_id(), request).await.unwrap().events.len(), 22);
    });
}

#[test]
fn who_reads_what_was_stored_since_a_deletion_hears_nothing_of_it() {
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        assert_eq!(numbers(&mut stream, 1).await, [0]);
        // Another hub had deleted the run long before its first event.
        hub.core.registry.tell(&run_id(), &FromRun::Reset { deleted_at: Some(1) });
        publish(&hub, 1).await;
        assert_eq!(numbers(&mut stream, 1).await, [1], "neither a gap nor an event twice");
        // What it has read was deleted.
        hub.core.registry.tell(&run_id(), &FromRun::Reset { deleted_at: Some(u64::MAX) });
        let left = rest_of(stream).await;
        assert!(left.contains(r#"{"reason":"run_deleted"}"#), "{left}");
        assert!(!left.contains("gap"), "{left}");
    });
}

#[test]
fn a_program_may_stop_its_system_without_closing_the_hub() {
    let (ended, end) = mpsc::channel();
    // Which thread ends first is chance: about one in a thousand of these hung.
    for _ in 0..2000 {
        let ended = ended.clone();
        std::thread::spawn(move || {
            let system = actix::System::new();
            let (hub, _dir, _stream) = system.block_on(async {
                let (hub, dir) = hub(Upcasters::default());
                let stream = subscribe(&hub).await;
                publish(&hub, 1).await;
                actix::System::current().stop();
                (hub, dir, stream)
            });
            system.run().unwrap();
            drop(hub);
            ended.send(()).unwrap();
        });
        end.recv_timeout(PATIENCE).expect("the program ends");
    }
}
