//! The promises of CONTRACT section 5, under load and under violence.

mod crowd;
mod deaths;
mod isolation;
mod one_event;
mod order;
