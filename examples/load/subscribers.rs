//! The subscribers: who follows what, and what came of it. Their thread is in `listening.rs`.

use crate::listening::serve;
use crate::mark::now;
use crate::measured::Spread;
use crate::tally::Tally;
use crate::target::Target;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(120);

/// Who follows what.
pub struct Follow {
    pub target: Target,
    pub runs: Arc<[String]>,
    pub subscribers: usize,
    /// The runs on one stream: the first subscriber has the first ones, and so on, over and over.
    pub runs_each: usize,
    /// Behind which event: its id and its sequence.
    pub after: Option<(String, u32)>,
    /// With how many events a subscriber has caught up.
    pub goal: Option<u64>,
}

impl Follow {
    pub fn new(target: &Target, runs: &Arc<[String]>, subscribers: usize) -> Self {
        let (target, runs) = (target.clone(), Arc::clone(runs));
        Self { target, runs, subscribers, runs_each: 1, after: None, goal: None }
    }

    /// The numbers of the runs that this subscriber follows.
    pub fn runs_of(&self, subscriber: usize) -> Range<usize> {
        let first = subscriber * self.runs_each % self.runs.len();
        first..(first + self.runs_each).min(self.runs.len())
    }
}

/// What other threads see of the subscribers while they work.
#[derive(Default)]
pub struct Counters {
    pub connected: AtomicUsize,
    pub delivered: AtomicU64,
    /// When the last delivery came.
    pub last: AtomicU64,
    /// How many were cut off, and why the first one was.
    pub cut: AtomicUsize,
    pub trouble: Mutex<Option<String>>,
}

/// What they have seen, when they have stopped.
#[derive(Default)]
pub struct Heard {
    /// From publish to receive.
    pub latency: Spread,
    /// From the start of all to having caught up.
    pub caught_up: Spread,
    pub tallies: Vec<Vec<Tally>>,
    /// Events of runs that a subscriber does not follow.
    pub strays: u64,
}

pub struct Subscribers {
    pub counters: Arc<Counters>,
    pub began: u64,
    /// How long it took until all were connected.
    pub connecting: Duration,
    follow: Arc<Follow>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Heard>>,
}

pub struct Verdict {
    pub deliveries: u64,
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
}

impl Subscribers {
    /// Starts them and waits until all are connected.
    pub fn connect(follow: Follow) -> Result<Self, String> {
        let (follow, counters) = (Arc::new(follow), Arc::new(Counters::default()));
        let (stop, began) = (Arc::new(Notify::new()), now());
        let work = (Arc::clone(&follow), Arc::clone(&counters), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&work.0, &work.1, &work.2, began));
        let (connecting, thread) = (Duration::ZERO, Some(thread));
        let mut subscribers = Self { counters, began, connecting, follow, stop, thread };
        subscribers.wait_until_connected()?;
        subscribers.connecting = Duration::from_nanos(now() - began);
        Ok(subscribers)
    }

    fn wait_until_connected(&self) -> Result<(), String> {
        let (all, counters) = (self.follow.subscribers, &self.counters);
        let deadline = self.began + u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        let connected = || counters.connected.load(Relaxed);
        while connected() < all {
            if counters.cut.load(Relaxed) > 0 || now() > deadline {
                let trouble = counters.trouble.lock().unwrap().clone();
                let why = trouble.unwrap_or_else(|| format!("the rest not after {PATIENCE:?}"));
                return Err(format!(
                    "only {} of {all} subscribers are connected: {why}",
                    connected()
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// How many deliveries that makes, if each run has got so many events.
    fn expected(&self, published: &[u32]) -> u64 {
        let first = self.follow.after.as_ref().map_or(0, |(_, sequence)| *sequence);
        let runs =
            (0..self.follow.subscribers).flat_map(|subscriber| self.follow.runs_of(subscriber));
        runs.map(|run| u64::from(published[run] - first)).sum()
    }

    /// Waits until all that was published has come, or nothing has for three seconds.
    pub fn wait_for(&self, published: &[u32]) {
        let deliveries = self.expected(published);
        let (mut seen, mut since) = (0, now());
        while seen < deliveries && now() - since < 3_000_000_000 {
            let delivered = self.counters.delivered.load(Relaxed);
            if delivered != seen {
                (seen, since) = (delivered, now());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many subscribers an event has.
    pub fn readers(&self) -> u64 {
        let Follow { runs, subscribers, runs_each, .. } = &*self.follow;
        (subscribers * runs_each / runs.len()) as u64
    }

    /// Stops them; the last event of each run tells what is lost.
    pub fn stop(mut self, published: &[u32]) -> Result<(Heard, Verdict), String> {
        // A moment for what may come twice.
        std::thread::sleep(Duration::from_millis(200));
        if let Some(trouble) = self.counters.trouble.lock().unwrap().take() {
            let cut = self.counters.cut.load(Relaxed);
            return Err(format!("{cut} subscribers were cut off: {trouble}"));
        }
        let heard = self.end().ok_or("the subscribers' thread has panicked")?;
        if heard.strays > 0 {
            return Err(format!("{} events reached who does not follow their run", heard.strays));
        }
        let mut verdict = Verdict { deliveries: 0, lost: 0, doubled: 0, reordered: 0 };
        for (subscriber, tallies) in heard.tallies.iter().enumerate() {
            for (run, tally) in self.follow.runs_of(subscriber).zip(tallies) {
                verdict.deliveries += tally.seen;
                verdict.lost += tally.lost(published[run]);
                verdict.doubled += tally.doubled;
                verdict.reordered += tally.reordered;
            }
        }
        Ok((heard, verdict))
    }
}

impl Subscribers {
    fn end(&mut self) -> Option<Heard> {
        self.stop.notify_one();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Subscribers {
    /// They are not to disturb the next measurement, whatever became of this one.
    fn drop(&mut self) {
        self.end();
    }
}
