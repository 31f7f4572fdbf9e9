//! Real faults: servers killed and frozen, data removed under readers.

mod network;
mod redis_away;
mod spool;
mod under_readers;
