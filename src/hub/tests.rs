//! Panics of real actors: counted, healed, nothing lost and nothing twice.

use actix::Message;

/// Makes an actor panic.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Crash;
