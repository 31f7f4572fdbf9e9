//! The tests of the whole hub, from outside: a real process, a real store, real faults.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::needless_pass_by_value, reason = "a test owns its setup, and ends it")]
#![allow(clippy::print_stderr, reason = "a failing test shows the hub's log and its seed")]

mod campaign;
mod common;
mod conformance;
mod contract;
mod faults;
mod history;
mod promises;
