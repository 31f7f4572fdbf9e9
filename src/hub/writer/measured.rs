//! The queue of a shard, without its writer and before a store that takes everything at once: what the
//! benches publish to.

use super::Told;
use super::queue::{NotTaken, Queue, Work};
use crate::event::{EventId, NewEvent, RunId, Sequence};
use crate::spool::Spool;
use crate::store::{Placed, PublishOutcome, RunAppend};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot::{self, Receiver};

/// A queue; see the module.
pub struct Appends(Arc<Queue>);

impl Appends {
    /// With `room` bytes for what waits. Nothing goes to the spool as long as that is enough.
    pub fn new(room: usize, spool: Spool) -> Self {
        Self(Arc::new(Queue::new(room, spool)))
    }

    /// Takes publishes in, each with a publisher who waits, makes one batch of them, and tells the publishers
    /// that it is stored. Gives the number of publishers that heard so.
    pub fn round(&self, publishes: &[(RunId, Arc<[NewEvent]>)]) -> usize {
        let publish = |(run, events): &(RunId, Arc<[NewEvent]>)| {
            let (reply, told) = oneshot::channel();
            self.0.push(run, Arc::clone(events), Some(reply), false).map(|_| told)
        };
        let waiting: Result<Vec<Receiver<Told>>, NotTaken> =
            publishes.iter().map(publish).collect();
        let (Ok(waiting), Some(Work::Send(flight))) = (waiting, self.0.next_work(Instant::now()))
        else {
            return 0;
        };
        let results = flight.appends().iter().map(|append| Ok(stored(append))).collect();
        self.0.settle(&flight, results);
        let heard = |mut told: Receiver<Told>| matches!(told.try_recv(), Ok(Told::Stored(_)));
        waiting.into_iter().map(heard).filter(|heard| *heard).count()
    }
}

fn stored(append: &RunAppend) -> Vec<PublishOutcome> {
    let place = Placed::of_new(EventId::START, Sequence::FIRST);
    let places = append.publishes.iter().map(|publish| vec![place; publish.events.len()]);
    places.map(PublishOutcome::Stored).collect()
}
