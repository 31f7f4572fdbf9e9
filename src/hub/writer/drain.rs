//! Sends to the store what the spool holds of some runs, the oldest first, under the numbers it was
//! spooled with: what the store has already it recognises. A run of which the disk gives nothing stops no other.

use super::Trouble;
use super::forgotten::Forgotten;
use super::queue::{BATCH_BYTES, BATCH_EVENTS, Queue};
use crate::event::{RunId, Timestamp};
use crate::hub::{left_out, search};
use crate::spool::{Spool, SpooledPublish, Waiting};
use crate::store::{LogStore, Publish, RunAppend, StoreError};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// About how many bytes of runs are looked through at a time, for what the store has forgotten.
const LOOK_BYTES: usize = 8 << 20;

/// What was read of one run.
struct Taken {
    append: RunAppend,
    /// Where its last publish is in the spool.
    last: u64,
    events: usize,
    /// Events that a search left out although their content is another.
    reused: usize,
}

/// Drains once. An `event_id` stands for one event within `window`.
pub(super) async fn drain(
    store: &dyn LogStore,
    spool: Spool,
    queue: &Arc<Queue>,
    runs: Vec<RunId>,
    forgotten: &mut Forgotten,
    window: Duration,
) -> Option<Trouble> {
    let (mut taken, mut failure, mut unanswered) = (Vec::new(), None, None);
    let Ok((read, left)) = tokio::task::spawn_blocking(move || read(&spool, runs)).await else {
        log::error!("reading the spool panicked");
        return Some(Trouble::Spool);
    };
    let mut room = LOOK_BYTES;
    for (run, oldest) in read {
        let oldest = match oldest {
            Ok(oldest) => oldest,
            Err(error) => {
                queue.cannot_be_read(&run, &error);
                continue;
            }
        };
        let Some(mut one) = take(&run, oldest) else {
            // Whatever was left of it is damaged.
            queue.drain_ended(&run, None, &Ok(()));
            continue;
        };
        // A store that does not answer for one run does not for the next.
        let looked = match &unanswered {
            None => leave_out_known(store, &mut one, forgotten, window, &mut room).await,
            Some(unanswered) => Err(StoreError::clone(unanswered)),
        };
        match looked {
            Ok(true) => {
                queue.drain_begins(&run, one.append.publishes.len());
                taken.push(one);
            }
            // It has its turn again when others have had theirs.
            Ok(false) => {}
            Err(error) => {
                queue.drain_ended(&run, None, &Err(error.clone()));
                unanswered = unanswered.or(Some(error).filter(StoreError::is_the_stores));
            }
        }
    }
    queue.put_off(&left);
    let (appends, ends): (Vec<_>, Vec<_>) =
        taken.into_iter().map(|t| (t.append, (t.last, t.events, t.reused))).unzip();
    let results = if appends.is_empty() { Vec::new() } else { store.append(&appends).await };
    for ((append, (last, events, reused)), result) in appends.iter().zip(ends).zip(results) {
        let result = result.map(|outcomes| left_out::tell(&append.run, reused, &outcomes));
        queue.drain_ended(&append.run, Some((last, events)), &result);
        failure = failure.or(result.err().filter(StoreError::is_the_stores));
    }
    forgotten.retain(|run| queue.is_run_behind(run));
    failure.map(Trouble::Append).or(unanswered.map(|_| Trouble::ReadBack))
}

/// Leaves out what the run has got and the store would not notice. False if more of the run is to be looked through.
async fn leave_out_known(
    store: &dyn LogStore,
    taken: &mut Taken,
    forgotten: &mut Forgotten,
    window: Duration,
    room: &mut usize,
) -> Result<bool, StoreError> {
    let (run, publishes) = (&taken.append.run, &mut taken.append.publishes);
    let waited = publishes.iter_mut().map(|publish| (publish.published_ms, &mut publish.events));
    let mut waited: Vec<_> = waited.collect();
    let now_ms = Timestamp::now().as_ms();
    if !forgotten.look(store, run, &waited, window, now_ms, room).await? {
        return Ok(false);
    }
    taken.reused += forgotten.leave_out(store, run, &mut waited, window).await?;
    for publish in publishes {
        taken.reused += search::leave_out_known(store, run, &mut publish.events).await?;
    }
    Ok(true)
}

/// What the spool has of a run, or why it cannot be read.
type Oldest = io::Result<Vec<Waiting>>;

/// Reads the oldest of each run, of the first ones at least, and says which runs are left. Waits for the disk.
fn read(spool: &Spool, runs: Vec<RunId>) -> (Vec<(RunId, Oldest)>, Vec<RunId>) {
    // Fair shares, but never more than one batch together: of large publishes fewer runs take part.
    let (mut events, mut bytes) = (BATCH_EVENTS, BATCH_BYTES);
    let (mut read, count) = (Vec::new(), runs.len().max(1));
    let mut runs = runs.into_iter();
    for run in runs.by_ref() {
        let share = (events.min(BATCH_EVENTS / count), bytes.min(BATCH_BYTES / count));
        let oldest = spool.oldest(&run, share.0, share.1);
        for Waiting { publish, .. } in oldest.iter().flatten() {
            let texts = publish.events.iter().map(|new| new.event.text_bytes());
            bytes = bytes.saturating_sub(texts.sum());
            events = events.saturating_sub(publish.events.len());
        }
        read.push((run, oldest));
        if events == 0 || bytes == 0 {
            break;
        }
    }
    (read, runs.collect())
}

/// The publishes that one writer numbered go together.
fn take(run: &RunId, oldest: Vec<Waiting>) -> Option<Taken> {
    let writer = oldest.first()?.publish.writer;
    let (mut last, mut events, mut publishes) = (0, 0, Vec::new());
    let numbered = oldest.into_iter().take_while(|waiting| waiting.publish.writer == writer);
    for Waiting { place, publish } in numbered {
        last = place;
        events += publish.events.len();
        let SpooledPublish { number, published_ms, events, .. } = publish;
        publishes.push(Publish { number, events, published_ms, answered: true });
    }
    let append = RunAppend { run: run.clone(), writer, publishes };
    Some(Taken { append, last, events, reused: 0 })
}
