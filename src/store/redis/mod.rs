//! The Redis store, as CONTRACT section 4 lays it out: a server, and how it is found and set up. Job streams of other
//! programs may be read as well ([`streams`]), and runs that only others have written to be looked for
//! ([`discovery`]).

mod append;
mod ask;
mod background;
mod cluster;
mod dial;
mod discovery;
mod heads;
mod hosts;
mod keys;
mod link;
mod links;
mod listing;
mod lookouts;
mod pace;
mod per_thread;
mod reader;
mod readers;
mod reply;
mod rests;
mod roster;
mod scripts;
mod sentinels;
mod server;
mod streams;

pub use dial::InvalidUrl;

use super::{LogStore, StoreRules};
use crate::config::{KeyStyle, RedisConfig, RedisUrl};
use background::Background;
use dial::Dialer;
use hosts::Transport;
use keys::{Keys, RUNS};
use scripts::Scripts;
use server::Server;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

/// The store cannot be set up at all; a server that is away is no such error.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// No thread could be started.
    #[error("cannot start the thread of the Redis connections: {0}")]
    Thread(#[from] std::io::Error),
}

/// Connections kept for readers: one for each thread that may follow runs, and one for all others.
const READERS: usize = 9;

/// Opens a store that connects in the background, and again whenever it has to.
pub fn open(
    url: &RedisUrl,
    rules: StoreRules,
    config: &RedisConfig,
) -> Result<Arc<dyn LogStore>, SetupError> {
    // The driver takes whichever provider the process has; another one being there is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    if let Some((transport, rest)) = Transport::of(url.reveal(), "-cluster") {
        return cluster::open(url, transport, rest, rules, config);
    }
    let dialer = Dialer::new(url, config)?;
    let server = Server::start(url.clone(), dialer, Ground::new(rules, config, None)?);
    if config.discover {
        server.discover();
    }
    Ok(Arc::new(server))
}

/// What servers of one store have in common.
#[derive(Clone)]
struct Ground {
    rules: Arc<StoreRules>,
    config: Arc<RedisConfig>,
    keys: Keys,
    scripts: Arc<Scripts>,
    /// The most connections of a server that wait for events.
    most_readers: usize,
    /// As many lookouts as there may be.
    lookouts: Arc<Semaphore>,
    /// There in a cluster: told when a key is on another server by now.
    moved: Option<Arc<Notify>>,
    background: Arc<Background>,
}

impl Ground {
    fn new(
        rules: StoreRules,
        config: &RedisConfig,
        moved: Option<Arc<Notify>>,
    ) -> Result<Self, SetupError> {
        // In a cluster no other keys of a run are kept together.
        let keys = Keys(if moved.is_some() { KeyStyle::Tagged } else { config.key_style });
        let most_readers = usize::try_from(config.max_readers).unwrap_or(usize::MAX).max(1);
        let lookouts = most_readers.saturating_sub(READERS).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            keys,
            scripts: Arc::new(Scripts::new(&rules, moved.is_none())),
            moved,
            rules: Arc::new(rules),
            config: Arc::new(config.clone()),
            most_readers,
            lookouts: Arc::new(Semaphore::new(lookouts)),
            background: Arc::new(Background::start()?),
        })
    }

    fn in_cluster(&self) -> bool {
        self.moved.is_some()
    }

    /// The key that scripts get for the list of runs: this one of their run where the list is none of their business.
    fn list<'a>(&self, own: &'a str) -> &'a str {
        if self.in_cluster() { own } else { RUNS }
    }
}
