//! Redis answers, but not as it should: it is loading, busy with a script, has too many clients, cannot
//! save, or forgot its last second.

use super::{event, holds_all, spools_in_time};
use crate::common::wait::PATIENCE;
use crate::common::{RedisServer, Setup, until};
use std::time::Instant;

fn setup(options: &[&str]) -> Setup {
    Setup::on(RedisServer::with(options)).set("PUBLISH__TIMEOUT", "1s")
}

#[test]
fn redis_is_loading() {
    let mut setup = setup(&["--key-load-delay", "500"]);
    let mut connection = setup.redis_server().connection();
    let mut pipeline = redis::pipe();
    for n in 0..4000 {
        pipeline.cmd("SET").arg(format!("other:{n}")).arg(n).ignore();
    }
    let () = pipeline.query(&mut connection).unwrap();
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish("r", &event(1));
    assert_eq!(stream.sequences(1), [1]);
    let () = setup.redis_server().command(&["SAVE"]);
    setup.redis.as_mut().unwrap().start_again_unready();
    let loading = until("redis says that it is loading", || {
        setup.redis_server().try_command(&["GET", "x"]).err()
    });
    spools_in_time(&hub, 2);
    assert!(loading.to_string().to_lowercase().contains("loading") || loading.is_io_error());
    holds_all(&hub, 2);
    assert_eq!(stream.sequences(1), [2]);
}

#[test]
fn redis_is_busy_with_a_script() {
    let setup = setup(&["--busy-reply-threshold", "50"]);
    let hub = setup.hub();
    hub.publish("r", &event(1));
    let mut busy = setup.redis_server().connection();
    busy.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut busy).unwrap_err()
        });
        until("redis is busy", || {
            let refused = setup.redis_server().try_command(&["GET", "x"]).err()?;
            (refused.code() == Some("BUSY")).then_some(())
        });
        spools_in_time(&hub, 2);
        hub.until_mode("degraded");
        spools_in_time(&hub, 3);
        let () = setup.redis_server().command(&["SCRIPT", "KILL"]);
    });
    holds_all(&hub, 3);
}

#[test]
fn redis_has_no_room_for_another_connection() {
    let setup = setup(&[]);
    let hub = setup.hub();
    let mut stream = hub.follow("/runs/r/events/stream");
    hub.publish("r", &event(1));
    assert_eq!(stream.sequences(1), [1]);
    let redis = setup.redis_server();
    let mut admin = redis.connection();
    let mut others: Vec<redis::Connection> = (0..3).map(|_| redis.connection()).collect();
    let () = redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(4).query(&mut admin).unwrap();
    // Whoever is not among these four is out.
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
    let mine: Vec<i64> = std::iter::once(&mut admin)
        .chain(&mut others)
        .map(|c| redis::cmd("CLIENT").arg("ID").query(c).unwrap())
        .collect();
    let ids = clients.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("id="));
    for id in ids.map(|id| id.parse::<i64>().unwrap()).filter(|id| !mine.contains(id)) {
        let _: i64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(&mut admin).unwrap();
    }
    spools_in_time(&hub, 2);
    hub.until_mode("degraded");
    spools_in_time(&hub, 3);
    let () =
        redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(10_000).query(&mut admin).unwrap();
    holds_all(&hub, 3);
    assert_eq!(stream.sequences(2), [2, 3]);
    drop(others);
    // Of each of the threads one that appends, one that follows runs and two that read the past; two that
    // are for all; and this one.
    let threads = std::thread::available_parallelism().unwrap().get().min(8);
    until("no connection too many is left", || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        (clients.lines().count() <= 4 * threads + 3).then_some(())
    });
}

#[test]
fn redis_cannot_save_and_refuses_writes() {
    let setup = setup(&["--enable-protected-configs", "local", "--save", "3600 1"]);
    let hub = setup.hub();
    hub.publish("r", &event(1));
    let redis = setup.redis_server();
    let nowhere = redis.folder().join("nowhere");
    std::fs::create_dir(&nowhere).unwrap();
    let () = redis.command(&["CONFIG", "SET", "dir", nowhere.to_str().unwrap()]);
    std::fs::remove_dir(&nowhere).unwrap();
    let () = redis.command(&["BGSAVE"]);
    until("redis refuses writes", || {
        let refused = redis.try_command(&["SET", "x", "1"]).err()?;
        (refused.code() == Some("MISCONF")).then_some(())
    });
    spools_in_time(&hub, 2);
    hub.until_mode("degraded");
    assert_eq!(hub.history("r").len(), 1, "what is there can be read");
    spools_in_time(&hub, 3);
    let () = redis.command(&["CONFIG", "SET", "dir", redis.folder().to_str().unwrap()]);
    let () = redis.command(&["BGSAVE"]);
    holds_all(&hub, 3);
}

#[test]
fn redis_that_sleeps_in_a_loop_is_slow_and_no_more() {
    let setup = setup(&["--enable-debug-command", "local"]);
    let hub = setup.hub();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut changes = Vec::new();
    std::thread::scope(|scope| {
        let (setup, stop) = (&setup, &stop);
        scope.spawn(move || {
            let began = Instant::now();
            while !stop.load(std::sync::atomic::Ordering::Acquire) && began.elapsed() < PATIENCE {
                let () = setup.redis_server().command(&["DEBUG", "SLEEP", "0.2"]);
            }
        });
        for n in 1..=15 {
            hub.publish("r", &event(n));
            let mode = hub.mode();
            if changes.last() != Some(&mode) {
                changes.push(mode);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    });
    assert_eq!(changes, ["normal"]);
    holds_all(&hub, 15);
}

#[test]
fn large_entries_that_others_added_are_looked_at_a_few_at_a_time() {
    let setup = Setup::redis();
    let (hub, redis) = (setup.hub(), setup.redis_server());
    let large = format!("\"{}\"", "x".repeat(200_000));
    let add = |category: &str, action: &str, data: &str| {
        let fields = [("event_category", category), ("event_action", action), ("data", data)];
        redis.xadd("run:r:events", &fields.map(|(name, value)| (name, value.as_bytes())))
    };
    let first = add("a", "b", &large);
    (0..250).for_each(|_| drop(add("a", "b", &large)));
    add("lifecycle", "completed", "null");
    (0..20).for_each(|_| drop(add("a", "b", &large)));
    // What is newest says nothing of how large the others are.
    (0..150).for_each(|_| drop(add("a", "b", "null")));
    let memory = |name: &str| -> usize {
        let all: String = redis.command(&["INFO", "memory"]);
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().parse().unwrap()
    };
    let before = memory("used_memory");
    let run = hub.get("/runs/r").json();
    assert_eq!((&run["status"], &run["length"]), (&"completed".into(), &422.into()));
    let created = first.split_once('-').unwrap().0.parse::<i64>().unwrap();
    let shown: jiff::Timestamp = run["created_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown.as_millisecond(), created, "when its first event came");
    // All of it would be 54 MB.
    let peak = memory("used_memory_peak").saturating_sub(before);
    assert!(peak < 8 << 20, "the peak was {peak} bytes higher");
}
