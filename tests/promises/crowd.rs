//! A crowd that comes back at once costs the store little more than one of it.

use crate::common::{Hub, Request, Setup, Stream};

const EVENTS: u64 = 3000;
const READERS: usize = 100;

/// Follows the run from its beginning with so many readers at once, who all get all of it.
fn follow_all(hub: &Hub, readers: usize) {
    let open = |_| Stream::open(hub.port, Request::new("GET", "/runs/r/events/stream"));
    let streams: Vec<Stream> = (0..readers).map(open).collect();
    std::thread::scope(|scope| {
        for mut stream in streams {
            scope.spawn(move || {
                assert_eq!(stream.sequences(EVENTS as usize), (1..=EVENTS).collect::<Vec<_>>());
            });
        }
    });
}

#[test]
fn pages_are_read_once_for_a_crowd() {
    let setup = Setup::redis();
    let (hub, redis) = (setup.hub(), setup.redis_server());
    for batch in 0..EVENTS / 500 {
        hub.publish_numbers("r", batch * 500 + 1, 500);
    }
    let reads = || redis.calls("xrange");
    let before = reads();
    follow_all(&hub, 1);
    let one = reads() - before;
    follow_all(&hub, READERS);
    let crowd = reads() - before - one;
    assert!(one > 0 && crowd <= 10 * one, "{crowd} reads for {READERS} readers, {one} for one");
}
