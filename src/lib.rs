//! Runhub.
pub mod config; pub mod event; pub mod hub; pub mod store; pub mod telemetry;
