//! Publishing what becomes of a job, for programs that think in jobs and not in events.

use super::{Ack, Hub, PublishError, Published};
use crate::event::typed::{
    CustomEvent, DocumentGenerated, KnownEvent, Object, OutlineGenerated, TaskCompleted,
    TaskFailed, TaskProgress, TaskStarted,
};
use crate::event::{RunId, Source};
use serde_json::Value;
use std::sync::Arc;

/// Publishes the events of one job, whose id is its run's.
#[derive(Clone)]
pub struct JobPublisher {
    hub: Hub,
    job: RunId,
    source: Option<Arc<Source>>,
}

impl JobPublisher {
    /// A publisher for this job.
    pub fn new(hub: &Hub, job: RunId) -> Self {
        Self { hub: hub.clone(), job, source: None }
    }

    /// The same, for an agent.
    pub fn with_source(self, source: Source) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }

    /// A task has begun.
    pub async fn started(&self, task_type: &str) -> Result<Published, PublishError> {
        self.publish(&TaskStarted::new(task_type)).await
    }

    /// A task has come this far, in any measure.
    pub async fn progress(
        &self,
        task_type: &str,
        progress: impl Into<Value>,
    ) -> Result<Published, PublishError> {
        self.publish(&TaskProgress::new(task_type, progress)).await
    }

    /// A task is done, with this result.
    pub async fn completed(
        &self,
        task_type: &str,
        result: Object,
    ) -> Result<Published, PublishError> {
        self.publish(&TaskCompleted { result: Some(result), ..TaskCompleted::new(task_type) }).await
    }

    /// A task has failed.
    pub async fn failed(&self, task_type: &str, error: &str) -> Result<Published, PublishError> {
        self.publish(&TaskFailed::new(task_type, error)).await
    }

    /// An outline is there.
    pub async fn outline_generated(&self, outline: Object) -> Result<Published, PublishError> {
        self.publish(&OutlineGenerated::new(outline)).await
    }

    /// A document is there.
    pub async fn document_generated(&self, document: Object) -> Result<Published, PublishError> {
        self.publish(&DocumentGenerated::new(document)).await
    }

    /// Something else happened.
    pub async fn custom(&self, data: impl Into<Value>) -> Result<Published, PublishError> {
        self.publish(&CustomEvent::new(data)).await
    }

    /// Any known event.
    pub async fn publish(&self, known: &impl KnownEvent) -> Result<Published, PublishError> {
        let mut event = known.event(&self.job);
        event.source.clone_from(&self.source);
        self.hub.publish_events(&self.job, [event], Ack::Persisted).await
    }
}
