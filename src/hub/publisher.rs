//! Publishing by message: a runner that is an actor sends [`Publish`] to a recipient and goes on.

use super::{Ack, Hub, PublishError, Published};
use crate::event::{Event, RunId};
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Request: publish these events, all or none of them.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Published, PublishError>")]
pub struct Publish {
    /// The run, which each event must be of.
    pub run: RunId,
    /// The events.
    pub events: Vec<Event>,
    /// What the answer waits for.
    pub ack: Ack,
}

impl Publish {
    /// One event, acknowledged by the store.
    pub fn one(event: Event) -> Self {
        Self { run: event.run_id.clone(), events: vec![event], ack: Ack::Persisted }
    }
}

/// The most publishes under way through one recipient.
const MOST_UNDER_WAY: usize = 10_000;

struct PublisherActor {
    hub: Hub,
    under_way: Arc<AtomicUsize>,
}

/// One publish under way.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hub {
    /// Whom to send [`Publish`] to: with `do_send` and go on, or with `send` and wait for the outcome. What
    /// is sent to one recipient keeps its order, but for events with an `event_id` that a hub made: those are
    /// searched for first. With too much under way it refuses ([`PublishError::Full`])
    /// and does not grow. Must be called on a thread of an actix system, on which it then lives.
    pub fn publisher(&self) -> Recipient<Publish> {
        let under_way = Arc::default();
        PublisherActor { hub: self.clone(), under_way }.start().recipient()
    }
}

impl Actor for PublisherActor {
    type Context = Context<Self>;
}

impl Handler<Publish> for PublisherActor {
    type Result = ResponseActFuture<Self, Result<Published, PublishError>>;

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) -> Self::Result {
        let earlier = self.under_way.fetch_add(1, Ordering::AcqRel);
        let place = UnderWay(Arc::clone(&self.under_way));
        if earlier >= MOST_UNDER_WAY {
            return Box::pin(async { Err(PublishError::Full) }.into_actor(self));
        }
        let hub = self.hub.clone();
        let published = async move {
            let Publish { run, events, ack } = publish;
            let published = hub.publish_events(&run, events, ack).await;
            drop(place);
            published
        };
        Box::pin(published.into_actor(self))
    }
}
