//! Publishing and following from within the process that runs the hub, without HTTP.

use super::subscriber::{CloseReason, Control, Item, ReadyEvent, Shape};
use super::{Ack, Hub, PublishError, Published, SubscribeError, SubscribeOptions, Subscription};
use crate::event::parse::MAX_ENVELOPE;
use crate::event::{Event, NewEvent, RunId, StoredEvent, json_text, received};
use crate::hub::run::Gap;
use futures::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What who follows a run hears.
#[derive(Debug, Clone)]
pub enum Followed {
    /// An event, with its data in today's version.
    Event(Box<StoredEvent>),
    /// Events are missing here.
    Gap(Gap),
    /// The store is away; what is published waits.
    Degraded,
    /// The store is back and has everything.
    Recovered,
    /// Nothing comes any more, for this reason.
    Closed(CloseReason),
}

/// A run's events as they come: its past, then what is live. Dropping it ends it.
pub struct Events(Subscription);

impl Hub {
    /// Publishes events to a run, all or none of them, and waits for what `ack` says. Each must be an event
    /// of that run, as any publisher's: its data JSON, within the limits.
    pub async fn publish_events(
        &self,
        run: &RunId,
        events: impl IntoIterator<Item = Event>,
        ack: Ack,
    ) -> Result<Published, PublishError> {
        let mut new = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            let invalid = |reason: String| PublishError::Invalid { index, reason };
            self.check(run, &event).map_err(invalid)?;
            let event = self.admit(event).map_err(|e| invalid(e.to_string()))?;
            new.push(NewEvent::new(event));
        }
        if new.is_empty() {
            let reason = "there is no event".to_owned();
            return Err(PublishError::Invalid { index: 0, reason });
        }
        self.publish(run, new, ack).await
    }

    fn check(&self, run: &RunId, event: &Event) -> Result<(), String> {
        let most = self.config().publish.max_data.as_usize();
        if event.run_id != *run {
            return Err(format!("it is an event of run {}, not of {run}", event.run_id));
        }
        if event.data.len() > most {
            return Err(format!("its data has {} bytes, the most is {most}", event.data.len()));
        }
        let envelope = event.text_bytes() - event.data.len();
        if envelope > MAX_ENVELOPE {
            return Err(format!(
                "it has {envelope} bytes beside its data, the most is {MAX_ENVELOPE}"
            ));
        }
        let (extras, source) = (event.extras.as_deref(), event.source.as_deref());
        let texts = [
            Some(&*event.data),
            extras.and_then(|e| e.tags.as_deref()),
            extras.and_then(|e| e.metadata.as_deref()),
            source.and_then(|s| s.json.as_deref()),
        ];
        for json in texts.into_iter().flatten() {
            serde_json::from_str::<&serde_json::value::RawValue>(json)
                .map_err(|e| e.to_string())?;
            json_text::check(json).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Follows a run. Must be called on a thread of an actix system.
    pub async fn follow(
        &self,
        run: &RunId,
        options: SubscribeOptions,
    ) -> Result<Events, SubscribeError> {
        let options = SubscribeOptions { shape: Shape::Items, ..options };
        self.subscribe(run, options).await.map(Events)
    }
}

impl Stream for Events {
    type Item = Followed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Followed>> {
        loop {
            let followed = match self.0.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Item::Event(event))) => read(&event),
                Poll::Ready(Some(Item::Control(control))) => Some(match control {
                    Control::Gap(gap) => Followed::Gap(gap),
                    Control::Degraded(_) => Followed::Degraded,
                    Control::Recovered(_) => Followed::Recovered,
                    Control::Close(reason) => Followed::Closed(reason),
                }),
                // Streams of items have no bytes.
                Poll::Ready(Some(Item::Bytes(_))) => None,
            };
            if followed.is_some() {
                return Poll::Ready(followed);
            }
        }
    }
}

fn read(event: &ReadyEvent) -> Option<Followed> {
    let read = std::str::from_utf8(&event.json).ok().and_then(received::read);
    if read.is_none() {
        log::error!("event {} cannot be read back from its own JSON; it is passed over", event.id);
    }
    read.map(|stored| Followed::Event(Box::new(stored)))
}
