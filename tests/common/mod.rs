//! What the tests stand on: a hub in a process of its own, a Redis server of its own, a plain HTTP
//! client and a strict reader of Server-Sent Events, none of which share code with the hub.

pub mod http;
pub mod hub;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_server;
pub mod sentinels;
pub mod sse;
pub mod tls;
pub mod wait;
pub mod ws;

pub use http::{Answer, Request};
pub use hub::{Hub, Setup};
pub use redis_cluster::RedisCluster;
pub use redis_server::RedisServer;
pub use sentinels::Sentinels;
pub use sse::{Frame, Stream};
pub use tls::Authority;
pub use wait::until;

/// Makes each function a test on the embedded store and one on Redis.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $( #[test] fn $name() { super::$name($crate::common::Setup::embedded()); } )*
        }
        mod redis {
            $( #[test] fn $name() { super::$name($crate::common::Setup::redis()); } )*
        }
    };
}
pub(crate) use on_both_stores;
