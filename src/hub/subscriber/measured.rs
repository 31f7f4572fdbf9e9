//! Readers of one run at its head, without their actors: what the benches deliver to.

use super::live;
use super::outbox::{Item, Outbox, Progress, Pulled, Shape};
use super::seam::Seam;
use crate::event::{EncodedBatch, EventId, Filter};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The seams and outboxes of many readers.
pub struct Outboxes(Vec<(Seam, Arc<Outbox>)>);

impl Outboxes {
    /// Of `count` readers that want everything and have read up to `cursor`, with `room` bytes each.
    pub fn new(count: usize, cursor: EventId, room: usize) -> Self {
        let progress = Progress { began: cursor, cursor, ..Progress::default() };
        let outbox = || Outbox::new(Filter::default(), Shape::default(), false, room, progress);
        Self((0..count).map(|_| (Seam::new(cursor), Arc::new(outbox()))).collect())
    }

    /// Does for each reader what its SubscriberActor does with a live batch.
    pub fn deliver(&mut self, batch: &EncodedBatch) {
        for (seam, outbox) in &mut self.0 {
            live::hear(seam, outbox, batch, None);
        }
    }

    /// Lets all readers take what there is for them and wait for more; says how many bytes they took.
    pub fn take_all(&self) -> usize {
        let cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        for (_, outbox) in &self.0 {
            while let Poll::Ready(Pulled { item: Some(Item::Bytes(bytes)), .. }) =
                outbox.poll_pull(&cx)
            {
                taken += bytes.len();
            }
        }
        taken
    }
}
