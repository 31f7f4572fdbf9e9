//! Runhub.
pub mod config; pub mod event; pub mod telemetry;
