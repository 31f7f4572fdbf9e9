//! Publishes a run's events in order, each exactly once: what got no answer is sent again under the same
//! `Idempotency-Key` until the hub has it.

use super::super::Failure;
use super::super::client::{Client, text_of};
use crate::event::RunId;
use crate::telemetry::log::one_line;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long to wait before sending again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one event is tried; long enough for a hub that is being replaced.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct Publisher {
    client: Client,
    run: String,
    path: String,
    sent: u64,
}

impl Publisher {
    /// For one run, whose events share one connection.
    pub(super) fn new(client: Client, run: &RunId) -> Self {
        Self { client, run: run.to_string(), path: format!("/runs/{run}/events"), sent: 0 }
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// How many events were published.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn publish(&mut self, event: &Value) -> Result<(), Failure> {
        let key = format!("{}-{}", self.run, self.sent + 1);
        let (body, started) = (event.to_string(), Instant::now());
        let mut said = false;
        while let Err(reason) = self.attempt(&key, &body)? {
            if started.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!("{}: given up: {reason}", self.run)));
            }
            if !said {
                eprintln!("runhub: {}: {}; sending again", self.run, one_line(&reason));
                said = true;
            }
            std::thread::sleep(PAUSE);
        }
        if said {
            eprintln!("runhub: {}: goes on", self.run);
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends once. The inner error is one that another attempt may get over.
    fn attempt(&self, key: &str, body: &str) -> Result<Result<(), String>, Failure> {
        let response = match self.client.post(&self.path, &[("idempotency-key", key)], body) {
            Ok(response) => response,
            Err(Failure::Failed(reason)) => return Ok(Err(reason)),
            Err(usage) => return Err(usage),
        };
        let status = response.status();
        match text_of(response) {
            Ok(_) => Ok(Ok(())),
            // A success that was cut off, and what is the hub's trouble and not the event's.
            Err(Failure::Failed(reason))
                if status.is_success() || status.is_server_error() || status == 429 =>
            {
                Ok(Err(reason))
            }
            Err(failure) => Err(failure),
        }
    }
}
