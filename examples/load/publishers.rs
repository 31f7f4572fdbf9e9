//! The publishers: some connections, each with one request under way, all on the thread that calls.

use crate::connection::Connection;
use crate::mark::now;
use crate::measured::Spread;
use crate::subscribers::Counters;
use crate::target::Target;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How fast.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many events a second.
    Rate(f64),
    /// As fast as it goes with so many events published that have not reached all their subscribers.
    Undelivered(u64),
}

#[derive(Clone)]
pub struct Load {
    pub target: Target,
    pub runs: Arc<[String]>,
    /// Each has runs of its own, so that a run's events stay in order.
    pub connections: usize,
    pub batch: u32,
    pub pace: Pace,
    pub secs: f64,
    /// The most events in a run.
    pub each: Option<u32>,
}

#[derive(Default)]
pub struct Sent {
    /// How many events each run has got; the last one's sequence, too.
    pub published: Vec<u32>,
    pub events: u64,
    /// From sending to being answered.
    pub answered: Spread,
    pub began: u64,
    pub ended: u64,
}

impl Sent {
    pub fn secs(&self) -> f64 {
        (self.ended - self.began) as f64 / 1e9
    }
}

struct Work<'a> {
    load: &'a Load,
    counters: &'a Counters,
    /// How many subscribers get an event.
    readers: u64,
    sent: RefCell<Sent>,
    deadline: u64,
}

impl Load {
    /// Publishes until the time is over, or each run has its events.
    pub fn publish(&self, counters: &Counters, readers: u64) -> Result<Sent, String> {
        let published = vec![0; self.runs.len()];
        let began = now();
        let work = Work {
            load: self,
            counters,
            readers,
            sent: RefCell::new(Sent { published, began, ended: began, ..Sent::default() }),
            deadline: began + (self.secs * 1e9) as u64,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connections = self.connections.min(self.runs.len());
        let publishers = (0..connections).map(|n| work.publisher(n, connections));
        runtime.block_on(futures::future::try_join_all(publishers))?;
        Ok(work.sent.into_inner())
    }
}

impl Work<'_> {
    async fn publisher(&self, number: usize, connections: usize) -> Result<(), String> {
        let Load { target, runs, batch, each, .. } = self.load;
        let redis = target.publishes_to_redis();
        let mut connection = Connection::open(target.publish_address(), redis).await?;
        let mut request = Vec::new();
        let own = (number..runs.len()).step_by(connections);
        for (turn, run) in own.cycle().enumerate() {
            let first = self.sent.borrow().published[run] + 1;
            let count = each.map_or(*batch, |each| (each + 1 - first).min(*batch));
            if count == 0 || !self.may_go_on(turn * connections + number).await {
                return Ok(());
            }
            request.clear();
            let events = first..=first + count - 1;
            let run_number = u32::try_from(run).unwrap_or(u32::MAX);
            let answers = target.publish(&mut request, &runs[run], run_number, events);
            let began = now();
            connection.ask(&request, answers).await?;
            let mut sent = self.sent.borrow_mut();
            sent.ended = now();
            let took = sent.ended - began;
            sent.answered.record(took);
            sent.published[run] += count;
            sent.events += u64::from(count);
        }
        Ok(())
    }

    /// Waits until the next publish is due; false when time is over.
    async fn may_go_on(&self, turn: usize) -> bool {
        match self.load.pace {
            Pace::Rate(rate) => {
                let gap = f64::from(self.load.batch) / rate * 1e9;
                let due = self.sent.borrow().began + (turn as f64 * gap) as u64;
                while now() < due.min(self.deadline) {
                    tokio::time::sleep(Duration::from_nanos(due - now().min(due))).await;
                }
            }
            Pace::Undelivered(most) => {
                let mut seen = (0, now());
                loop {
                    let delivered = self.counters.delivered.load(Relaxed);
                    let published = self.sent.borrow().events * self.readers;
                    let has_room = published < delivered + most * self.readers.max(1);
                    // Where nothing comes for a while the rest is lost, and the tallies will tell.
                    let hopeless = now() - seen.1 > 3_000_000_000;
                    if has_room || hopeless || now() >= self.deadline {
                        break;
                    }
                    if delivered != seen.0 {
                        seen = (delivered, now());
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        now() < self.deadline
    }
}
