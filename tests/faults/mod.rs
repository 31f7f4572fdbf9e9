//! Real faults: servers killed and frozen, data removed under readers.

mod embedded_disk;
mod network;
mod redis_away;
mod redis_limits;
mod spool;
mod under_readers;
