//! Real faults: servers killed and frozen, data removed under readers.

mod campaign;
mod embedded_disk;
mod network;
mod proxy_itself;
mod redis_away;
mod redis_limits;
mod spool;
mod under_readers;
