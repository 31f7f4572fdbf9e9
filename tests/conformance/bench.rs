//! Where the stores of a check live, and how they are opened.

use crate::common::wait::PATIENCE;
use crate::common::{RedisCluster, RedisServer};
use runhub::config::{self, EmbeddedConfig, RedisConfig, RedisUrl, RetentionConfig};
use runhub::store::embedded::EmbeddedStore;
use runhub::store::memory::MemoryStore;
use runhub::store::redis;
use runhub::store::{LogStore, StoreRules};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub type Store = Arc<dyn LogStore>;

/// The rules of a hub as it comes.
pub fn rules() -> StoreRules {
    StoreRules::new(&RetentionConfig::default(), Duration::from_secs(600))
}

/// A place for stores of one kind, gone with the check.
pub struct Bench {
    place: Place,
}

enum Place {
    Memory,
    Folder(TempDir, EmbeddedConfig),
    Server(RedisServer, RedisConfig),
    Cluster(RedisCluster, RedisConfig),
}

impl Bench {
    pub fn memory() -> Self {
        Self { place: Place::Memory }
    }

    pub fn embedded() -> Self {
        Self::in_folder(config::Sync::Always)
    }

    /// The embedded store that syncs once a second.
    pub fn everysec() -> Self {
        Self::in_folder(config::Sync::Everysec)
    }

    fn in_folder(sync: config::Sync) -> Self {
        let config = EmbeddedConfig { sync, ..EmbeddedConfig::default() };
        Self { place: Place::Folder(tempfile::tempdir().unwrap(), config) }
    }

    pub fn redis() -> Self {
        Self::on_server(false)
    }

    pub fn redis_with_jobs() -> Self {
        Self::on_server(true)
    }

    fn on_server(job_streams: bool) -> Self {
        let config = RedisConfig { job_streams, ..patient() };
        Self { place: Place::Server(RedisServer::start(), config) }
    }

    pub fn redis_cluster() -> Self {
        Self { place: Place::Cluster(RedisCluster::start(3), patient()) }
    }

    /// Opens a store here. But for one in memory, it holds what the stores opened before have left.
    pub fn open(&self, rules: StoreRules) -> Store {
        match &self.place {
            Place::Memory => Arc::new(MemoryStore::new(rules)),
            Place::Folder(dir, config) => {
                Arc::new(EmbeddedStore::open(dir.path(), rules, config).unwrap())
            }
            Place::Server(server, config) => {
                redis::open(&RedisUrl::new(server.url()), rules, config).unwrap()
            }
            Place::Cluster(cluster, config) => {
                redis::open(&RedisUrl::new(cluster.url()), rules, config).unwrap()
            }
        }
    }

    /// The server behind the stores.
    pub fn server(&self) -> &RedisServer {
        match &self.place {
            Place::Server(server, _) => server,
            _ => panic!("this store has no server"),
        }
    }
}

/// A test machine that is busy for a moment is no failure of the store.
fn patient() -> RedisConfig {
    RedisConfig { connect_timeout: PATIENCE, command_timeout: PATIENCE, ..RedisConfig::default() }
}

/// Runs a check to its end.
pub fn on_runtime(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check);
}
