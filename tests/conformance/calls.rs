//! Appends to many runs go to Redis in few calls, each of many runs: what becomes of one of them says nothing of the others.

use super::publishing::{Writer, event, numbered, run_id};
use super::reading::{all, numbers};
use super::{Bench, Store, rules};
use runhub::event::RunId;
use runhub::store::{PublishOutcome, RunAppend, StoreError};
use std::ops::RangeInclusive;

on_redis!(
    one_broken_run_breaks_no_other_of_its_call,
    a_book_that_others_wrote_into_breaks_no_other_run,
    more_runs_than_a_call_takes,
    a_server_that_refuses_writes_refuses_the_whole_call,
);

/// A publish to each run by one writer, of events with these numbers, which all have the same source.
fn batches(store: &Store, runs: &[RunId], numbers: RangeInclusive<u64>) -> Vec<RunAppend> {
    let json = |n| format!(r#"{{"type":"llm.stream","source":{{"agent_id":"r1"}},"data":{n}}}"#);
    let mut writer = Writer::new(store, &runs[0]);
    let batch = |run: &RunId| {
        let events = numbers.clone().map(|n| event(run, &json(n))).collect();
        writer.batch_to(run, vec![events])
    };
    runs.iter().map(batch).collect()
}

async fn one_broken_run_breaks_no_other_of_its_call(bench: Bench) {
    let store = bench.open(rules());
    // The first may be broken, the last, and neighbours; of runs that are new, and of others; with one event and several.
    let cases = [(false, [0, 1]), (false, [2, 5]), (true, [0, 1]), (true, [3, 5])];
    let cases = cases.into_iter().flat_map(|case| [4, 6].map(|last| (case, last)));
    for (case, ((known, broken), last)) in cases.enumerate() {
        let runs: Vec<RunId> = (0..6).map(|n| run_id(&format!("run-{case}-{n}"))).collect();
        if known {
            let results = store.append(&batches(&store, &runs, 1..=3)).await;
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
        for (n, kind) in broken.into_iter().zip(["events", "meta"]) {
            let () = bench.server().command(&["SET", &format!("run:{}:{kind}", runs[n]), "x"]);
        }
        let results = store.append(&batches(&store, &runs, 4..=last)).await;
        for (n, result) in results.iter().enumerate() {
            if broken.contains(&n) {
                let Err(StoreError::BrokenRun { reason }) = result else { panic!("{result:?}") };
                assert!(reason.starts_with("WRONGTYPE "), "{reason}");
                continue;
            }
            assert!(matches!(result.as_deref(), Ok([PublishOutcome::Stored(_)])), "{result:?}");
            let events = all(&store, &runs[n]).await;
            assert_eq!(numbers(&events), (if known { 1 } else { 4 }..=last).collect::<Vec<_>>());
            for event in events {
                assert_eq!(event.event.source.unwrap().agent_id.as_deref(), Some("r1"));
            }
        }
    }
}

async fn a_book_that_others_wrote_into_breaks_no_other_run(bench: Bench) {
    let store = bench.open(rules());
    let last_ids = ["\n5-0", "5-0 1", "5-0\0\u{1}", "", "x", "$", "+", "99999999999999"];
    let odd = last_ids.map(|id| ("last_id", id)).into_iter();
    let odd = odd.chain(["", "x"].map(|number| ("sequence", number)));
    let cases = odd.flat_map(|odd| [3, 4].map(|last| (odd, last)));
    for (case, ((field, value), last)) in cases.enumerate() {
        let runs: Vec<RunId> = (0..3).map(|n| run_id(&format!("run-{case}-{n}"))).collect();
        let results = store.append(&batches(&store, &runs, 1..=2)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let meta = format!("run:{}:meta", runs[1]);
        let _: i64 = bench.server().command(&["HSET", &meta, field, value]);
        let results = store.append(&batches(&store, &runs, 3..=last)).await;
        for (n, result) in results.iter().enumerate() {
            match result {
                Err(StoreError::BrokenRun { .. }) if n == 1 => {}
                Ok(_) if n != 1 => {
                    let events = all(&store, &runs[n]).await;
                    assert_eq!(numbers(&events), (1..=last).collect::<Vec<_>>());
                }
                result => panic!("run {n} with {field} {value:?}: {result:?}"),
            }
        }
    }
}

async fn more_runs_than_a_call_takes(bench: Bench) {
    let store = bench.open(rules());
    let runs: Vec<RunId> = (0..2100).map(|n| run_id(&format!("run-{n}"))).collect();
    for number in 1..=2 {
        let batches: Vec<RunAppend> = runs
            .iter()
            .map(|run| Writer::new(&store, run).batch(vec![numbered(run, number..=number)]))
            .collect();
        let results = store.append(&batches).await;
        assert_eq!(results.len(), runs.len());
        assert!(results.iter().all(Result::is_ok));
    }
    let listed: u64 = bench.server().command(&["ZCARD", "runs"]);
    assert_eq!(listed, 2100);
    for run in [&runs[0], &runs[63], &runs[64], &runs[2099]] {
        assert_eq!(numbers(&all(&store, run).await), [1, 2]);
    }
}

async fn a_server_that_refuses_writes_refuses_the_whole_call(bench: Bench) {
    let (store, server) = (bench.open(rules()), bench.server());
    let runs: Vec<RunId> = (0..3).map(|n| run_id(&format!("run-{n}"))).collect();
    for (first, last) in [(1, 2), (3, 4), (5, 5)] {
        let batches = batches(&store, &runs, first..=last);
        let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        for result in store.append(&batches).await {
            let Err(StoreError::Refused { reason }) = &result else { panic!("{result:?}") };
            assert!(reason.starts_with("OOM "), "{reason}");
        }
        let () = server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        // What was refused was not done, not in part either.
        for result in store.append(&batches).await {
            assert!(matches!(result.as_deref(), Ok([PublishOutcome::Stored(_)])), "{result:?}");
        }
        for run in &runs {
            assert_eq!(numbers(&all(&store, run).await), (1..=last).collect::<Vec<_>>());
        }
    }
}
