//! Real faults: servers killed and frozen, data removed under readers.

mod network;
mod redis_away;
mod under_readers;
