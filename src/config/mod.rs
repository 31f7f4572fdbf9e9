//! Every setting, its default and its documentation, in one place each.
//!
//! A section is a struct made by the `section!` macro from `key: type = default` lines; the same lines
//! give the parser of file, environment and flags ([`mod@load`]), the errors that name a bad key, and
//! `config/runhub.toml` ([`mod@render`]).

#[macro_use]
mod section;
pub mod load;
pub mod render;
mod sections;
pub mod setting;

pub use load::{ConfigError, Origin, key_of_variable, load};
pub use sections::{
    Config, EmbeddedConfig, EventsConfig, LogConfig, PublishConfig, RedisConfig, RetentionConfig,
    ServerConfig, SubscribeConfig,
};
pub use setting::{ByteCount, KeyStyle, LogFilter, Origins, RedisUrl, Sync, TerminalTypes};
