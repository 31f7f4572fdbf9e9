//! Starting a hub as a configuration says, on its own or within somebody else's program. A program that wants the
//! hub's metrics installs a recorder of the `metrics` crate first: what is counted for each request is looked up once.

use crate::config::Config;
use crate::event::Upcasters;
use crate::hub::Hub;
use crate::spool::{self, Spool};
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::redis::{self, SetupError};
use crate::store::{LogStore, StoreRules};
use std::sync::Arc;

/// A hub cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What `redis.url` says cannot be used. (A Redis that is away is no error.)
    #[error(transparent)]
    Redis(#[from] SetupError),
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Store(#[from] embedded::OpenError),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
}

/// Opens the store that a configuration names, and the spool.
pub fn open(config: &Config) -> Result<(Arc<dyn LogStore>, Spool), StartError> {
    let rules = StoreRules::new(&config.retention, config.publish.dedup_window);
    let store: Arc<dyn LogStore> = match &config.redis.url {
        Some(url) => redis::open(url, rules, &config.redis)?,
        None => Arc::new(EmbeddedStore::open(&config.server.data_dir, rules, &config.embedded)?),
    };
    let folder = config.server.data_dir.join("spool");
    let spool = Spool::open(&folder, config.spool.max_bytes.0, config.publish.queue.0)?;
    Ok((store, spool))
}

impl Hub {
    /// Opens what the configuration names and starts a hub on it. Must be called within an actix system.
    /// Opening reads the disk: it blocks.
    pub fn open(config: Config) -> Result<Self, StartError> {
        Self::open_with(config, Upcasters::default())
    }

    /// The same, with upcasters for events of older versions.
    pub fn open_with(config: Config, upcasters: Upcasters) -> Result<Self, StartError> {
        let (store, spool) = open(&config)?;
        Ok(Self::start_with(config, store, spool, upcasters))
    }
}
