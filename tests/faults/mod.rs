//! Real faults: servers killed and frozen, data removed under readers.

mod embedded_disk;
mod network;
mod redis_away;
mod spool;
mod under_readers;
