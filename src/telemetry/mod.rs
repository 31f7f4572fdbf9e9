//! What operators see of a running hub: log lines and metrics.

pub mod log;
pub mod metrics;
