//! Real faults: servers killed and frozen, data removed under readers.

mod campaign;
mod network;
mod proxy_itself;
mod redis_away;
mod under_readers;
