//! The end of a campaign: everything comes to rest, and what there is then is written down.

use super::content::{Seen, seen, seen_in_redis};
use super::shared::Shared;
use super::stage::Stage;
use super::watcher::ask;
use super::wire::Wire;
use crate::common::Request;
use crate::history::{EventId, Log, What};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const GLANCE: Duration = Duration::from_millis(20);

/// Waits for rest, reads all histories, and ends everybody.
pub fn close(shared: &Shared, stage: &Stage, patience: Duration, subscribers: usize) {
    let deadline = Instant::now() + patience;
    let wait = |what: &str, done: &mut dyn FnMut() -> bool| {
        while !done() {
            if Instant::now() >= deadline {
                shared.record(What::Overdue { what: format!("not in {patience:?}: {what}") });
                return;
            }
            std::thread::sleep(GLANCE);
        }
    };
    shared.stop_publishing.store(true, Ordering::Release);
    let is_silent = || shared.publishing.load(Ordering::Acquire) == 0;
    wait("every publish is taken", &mut || is_silent());
    shared.give_up.store(true, Ordering::Release);
    // A publisher that waits for an answer gets it, or loses its patience.
    while !is_silent() {
        std::thread::sleep(GLANCE);
    }
    for port in shared.all_ports() {
        let mut wire = Wire::to(port, Duration::from_secs(1));
        wait("the mode is normal and the spool is empty", &mut || {
            ask(&mut wire) == ("normal".to_owned(), 0)
        });
    }
    let mut ends: HashMap<&str, EventId> = HashMap::new();
    let mut finals = Vec::new();
    for run in &shared.runs {
        let told_at = |port| {
            // The connection that the hub reads on may be half open; that is noticed by reading.
            let mut events = None;
            wait(&format!("the history of {run} can be read"), &mut || {
                events = history(port, run);
                events.is_some()
            });
            known(shared, events.unwrap_or_default().iter().map(seen))
        };
        let history = told_at(shared.port());
        if shared.all_ports().skip(1).any(|other| told_at(other) != history) {
            shared.broken(format!("the hubs do not tell the same history of {run}"));
        }
        if let Some((_, place, _)) = history.last() {
            ends.insert(run, place.id);
        }
        finals.push((Log::Hub, run, history));
    }
    for run in ends.keys() {
        for number in 0..subscribers {
            let subscriber = (format!("s{number}"), (*run).to_owned());
            let is_there = || shared.tails.lock().get(&subscriber) >= ends.get(run);
            wait(&format!("s{number} on {run} is at the end"), &mut || is_there());
        }
    }
    shared.stop_reading.store(true, Ordering::Release);
    if stage.setup.redis.is_some() {
        finals.extend(shared.runs.iter().map(|run| (Log::Store, run, stored(shared, stage, run))));
    }
    for (log, run, events) in finals {
        for (key, place, content) in events {
            shared.record(What::Final { log, run: run.clone(), key, place, content });
        }
    }
}

/// The run as the hub tells it, page by page; nothing if it cannot now.
fn history(port: u16, run: &str) -> Option<Vec<Value>> {
    let (mut events, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let path = format!("/runs/{run}/events?start_id={from}");
        let page = Request::new("GET", &path).send(port);
        if page.status != 200 {
            return None;
        }
        let mut page = page.json();
        events.append(page["events"].as_array_mut()?);
        match page["next_id"].as_str() {
            Some(next) => from = next.to_owned(),
            None => return Some(events),
        }
    }
}

/// The run as it lies in Redis.
fn stored(shared: &Shared, stage: &Stage, run: &str) -> Vec<Seen> {
    let key = format!("run:{run}:events");
    let entries: Vec<(String, HashMap<String, String>)> =
        stage.setup.redis_server().command(&["XRANGE", &key, "-", "+"]);
    known(shared, entries.iter().map(|(id, fields)| seen_in_redis(id, fields)))
}

fn known(shared: &Shared, events: impl Iterator<Item = Result<Seen, String>>) -> Vec<Seen> {
    let known = |event: Result<Seen, String>| event.map_err(|wrong| shared.broken(wrong)).ok();
    events.filter_map(known).collect()
}
