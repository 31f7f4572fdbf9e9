//! Runhub, the event hub for agent runs.
//!
//! Runners publish events per run; they live in a Redis Stream per run, or in an embedded store; any
//! number of readers follow a run live and resume with nothing lost and nothing twice.
//!
//! The house, imports running one way, downwards:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | the commands |
//! | [`embed`] | starting a hub as a configuration says |
//! | [`web`] | HTTP: routes, answers, problems |
//! | [`hub`] | the handle and the actors behind it |
//! | [`store`] | where events live: memory, embedded, Redis |
//! | [`spool`] | where they wait on disk while the store does not take them |
//! | [`event`] | events, their grammars and encodings; pure |
//! | [`config`], [`telemetry`] | settings; log and metrics: leaves that everybody may use |
//!
//! ARCHITECTURE.md has the map with the invariants.
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "these pages are read by those who change the code"
)]

pub mod cli;
pub mod config;
pub mod embed;
pub mod event;
pub mod hub;
pub mod spool;
pub mod store;
pub mod telemetry;
pub mod web;

pub use config::Config;
pub use hub::Hub;
