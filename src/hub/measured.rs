//! What the benches measure of the hub's inside, where its actors call it. For nobody else: it changes as
//! the inside does.

pub use super::subscriber::measured::Outboxes;
pub use super::writer::measured::Appends;
