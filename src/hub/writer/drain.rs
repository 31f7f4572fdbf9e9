//! Sends to the store what the spool holds of some runs, the oldest first, under the numbers it was
//! spooled with: what the store has already it recognises.

use super::queue::{BATCH_BYTES, BATCH_EVENTS, Queue};
use crate::event::RunId;
use crate::hub::search;
use crate::spool::{Spool, SpooledPublish};
use crate::store::{LogStore, Publish, RunAppend, StoreError};

/// What was read of one run.
struct Taken {
    append: RunAppend,
    /// Where its last publish is in the spool.
    last: u64,
    events: usize,
}

/// Drains once; gives the failure of the store, if there was one.
pub(super) async fn drain(
    store: &dyn LogStore,
    spool: Spool,
    queue: &Queue,
    runs: Vec<RunId>,
) -> Option<StoreError> {
    let (mut taken, mut failure) = (Vec::new(), None);
    for (run, oldest) in read(spool, runs).await {
        let Some(mut one) = take(&run, oldest) else {
            // Whatever was left of it could not be read back.
            queue.drain_ended(&run, None, &Ok(()));
            continue;
        };
        queue.drain_begins(&run, one.append.publishes.len());
        let mut searched = Ok(());
        for publish in &mut one.append.publishes {
            if searched.is_ok() {
                searched = search::leave_out_known(store, &run, &mut publish.events).await;
            }
        }
        match searched {
            Ok(()) => taken.push(one),
            failed @ Err(_) => {
                queue.drain_ended(&run, None, &failed);
                failure = failed.err().filter(StoreError::is_transient);
            }
        }
    }
    let (appends, ends): (Vec<_>, Vec<_>) =
        taken.into_iter().map(|taken| (taken.append, (taken.last, taken.events))).unzip();
    let results = store.append(&appends).await;
    for ((append, end), result) in appends.iter().zip(ends).zip(results) {
        let result = result.map(|_| ());
        queue.drain_ended(&append.run, Some(end), &result);
        failure = failure.or(result.err().filter(StoreError::is_transient));
    }
    failure
}

/// Reads the oldest of each run on a thread that may wait for the disk.
async fn read(spool: Spool, runs: Vec<RunId>) -> Vec<(RunId, Vec<(u64, SpooledPublish)>)> {
    let count = runs.len().max(1);
    let (events, bytes) = (BATCH_EVENTS / count, BATCH_BYTES / count);
    let read = move || {
        let oldest = |run| {
            let oldest = spool.oldest(&run, events, bytes);
            (run, oldest)
        };
        runs.into_iter().map(oldest).collect()
    };
    // Only a panic or the end of the runtime keeps it from its end; then there is nothing to drain.
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// The publishes that one writer numbered go together.
fn take(run: &RunId, oldest: Vec<(u64, SpooledPublish)>) -> Option<Taken> {
    let writer = oldest.first()?.1.writer;
    let (mut last, mut events, mut publishes) = (0, 0, Vec::new());
    for (seq, publish) in oldest.into_iter().take_while(|(_, publish)| publish.writer == writer) {
        last = seq;
        events += publish.events.len();
        publishes.push(Publish { number: publish.number, events: publish.events, answered: true });
    }
    Some(Taken { append: RunAppend { run: run.clone(), writer, publishes }, last, events })
}
