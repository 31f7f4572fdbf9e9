//! Readers that are near their run, and are written to on its thread.

use super::{in_system, number_in, numbers, publish, rest_of, run_id, subscribe};
use crate::hub::{Item, Shortcut, Subscription};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// A client: the bytes that have reached it, and the dice for how many it takes at a time.
struct Client {
    got: Vec<u8>,
    dice: SmallRng,
    /// How often bytes came the short way, whole and in part.
    came: [usize; 2],
}

struct Line(Arc<Mutex<Client>>);

impl Shortcut for Line {
    fn write(&mut self, size: usize, pieces: &mut dyn Iterator<Item = &Bytes>) -> Option<Bytes> {
        let bytes: Vec<u8> = pieces.flatten().copied().collect();
        assert_eq!(bytes.len(), size);
        let client = &mut *self.0.lock();
        let taken = match client.dice.random_bool(0.3) {
            true => client.dice.random_range(0..size),
            false => size,
        };
        client.got.extend_from_slice(&bytes[..taken]);
        client.came[usize::from(taken < size)] += 1;
        (taken < size).then(|| Bytes::copy_from_slice(&bytes[taken..]))
    }
}

/// What the side of a reader does that is served over HTTP: takes what there is, rests, and sometimes wakes for
/// nothing, until the client has the event with this number.
async fn read(stream: &mut Subscription, client: &Arc<Mutex<Client>>, last: usize) {
    let last = format!("\"data\":{last}");
    while !String::from_utf8_lossy(&client.lock().got).contains(&last) {
        let round = poll_fn(|cx| {
            if let Some(left) = stream.wake_up() {
                client.lock().got.extend_from_slice(&left);
            }
            loop {
                match stream.poll_next(cx) {
                    Poll::Ready(Some(Item::Bytes(bytes))) => client.lock().got.extend(bytes),
                    Poll::Ready(other) => panic!("{other:?}"),
                    Poll::Pending if stream.rest(|| Box::new(Line(Arc::clone(client)))) => break,
                    Poll::Pending => {}
                }
            }
            Poll::<()>::Pending
        });
        let nap = client.lock().dice.random_range(1..20);
        let _ = timeout(Duration::from_millis(nap), round).await;
    }
}

fn client(seed: u64) -> Arc<Mutex<Client>> {
    let dice = SmallRng::seed_from_u64(seed);
    Arc::new(Mutex::new(Client { got: Vec::new(), dice, came: [0; 2] }))
}

/// Readers that come to a run with so many events, and stay while more come.
fn readers_get_every_event_once(before: usize) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    in_system(async |hub| {
        let mut dice = SmallRng::seed_from_u64(seed);
        for number in 0..before {
            publish(&hub, number).await;
        }
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push((subscribe(&hub).await, client(dice.random())));
        }
        let publisher = {
            let hub = hub.clone();
            actix::spawn(async move {
                for number in before..400 {
                    publish(&hub, number).await;
                }
            })
        };
        let reads = clients.iter_mut().map(|(stream, client)| read(stream, client, 399));
        futures::future::join_all(reads).await;
        publisher.await.unwrap();
        let (mut near, mut came) = (0, [0; 2]);
        for (_, client) in &clients {
            let client = client.lock();
            let frames = std::str::from_utf8(&client.got).unwrap().split("\n\n");
            let seen: Vec<usize> = frames.filter_map(number_in).collect();
            assert_eq!(seen, (0..400).collect::<Vec<_>>());
            near += usize::from(client.came != [0; 2]);
            came = [came[0] + client.came[0], came[1] + client.came[1]];
        }
        assert_eq!(near, 4);
        assert!(came[0] > 100 && came[1] > 20, "{came:?} came the short way");
    });
}

#[test]
fn readers_that_rest_and_wake_get_every_event_once() {
    readers_get_every_event_once(0);
}

#[test]
fn readers_of_the_past_get_every_event_once() {
    readers_get_every_event_once(100);
}

#[test]
fn a_reader_that_is_gone_holds_nothing_and_leaves_its_place_to_others() {
    in_system(async |hub| {
        for round in 0..6 {
            let (mut stream, client) = (subscribe(&hub).await, client(0));
            publish(&hub, round).await;
            assert_eq!(numbers(&mut stream, round + 1).await, (0..=round).collect::<Vec<_>>());
            assert!(stream.rest(|| Box::new(Line(Arc::clone(&client)))));
            assert_eq!(Arc::strong_count(&client), 2, "it lies in the outbox");
            drop(stream);
            assert_eq!(Arc::strong_count(&client), 1, "its socket is closed at once");
            while hub.subscribers(&run_id()) > 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn what_else_the_run_says_comes_in_its_order() {
    use crate::hub::CloseReason;
    use crate::hub::subscriber::FromRun;
    in_system(async |hub| {
        let mut stream = subscribe(&hub).await;
        publish(&hub, 0).await;
        assert_eq!(numbers(&mut stream, 1).await, [0]);
        // Its actor, on this very thread, hears of the end only once the event behind it has come.
        hub.core.registry.tell(&run_id(), &FromRun::Close(CloseReason::RunDeleted));
        let (told, ended) = std::sync::mpsc::channel();
        let publisher = hub.clone();
        std::thread::spawn(move || {
            actix::System::new().block_on(async { publish(&publisher, 1).await });
            told.send(()).unwrap();
        });
        ended.recv().unwrap();
        assert_eq!(rest_of(stream).await, "event: close\ndata: {\"reason\":\"run_deleted\"}\n\n");
    });
}
