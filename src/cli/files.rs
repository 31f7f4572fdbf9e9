//! How many files may be open at once, and how many of them are for clients. Without bounds of its own a hub whose
//! clients have taken all descriptors could neither dial Redis nor write its spool.

use super::Failure;
use crate::config::{Config, SubscribeConfig};
use crate::{hub, web};

/// For the hub itself: the spool, and what is opened now and then.
const OWN: u64 = 64;
/// For each of its threads: to wait for events, and its links to Redis.
const OF_A_THREAD: u64 = 8;
/// For the embedded store: the files of its database, of which it keeps 200 open.
const EMBEDDED: u64 = 256;
/// On Redis, of all files one in so many at most may be a connection that waits for events.
const A_READER: u64 = 16;
/// Connections that are no streams, for which room is kept where there is little.
const REQUESTS: u64 = 1024;
/// With fewer files than this a hub does not start.
const LEAST: u64 = 100;
/// With fewer streams than this a hub says so, even if nobody has asked for a number.
const FEW: u64 = 10_000;

/// Raises the limit of open files as far as it goes, and bounds streams and connections by what is left of it.
pub(super) fn bound_clients(config: &mut Config) -> Result<(), Failure> {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(e) => {
            log::warn!("cannot raise the limit of open files: {e}");
            return Ok(());
        }
    };
    if limit < LEAST {
        let few = format!(
            "only {limit} files may be open at once, and a hub needs {LEAST}: raise it with ulimit -n"
        );
        return Err(Failure::Failed(few));
    }
    let threads = (web::workers(config) + hub::threads()) as u64;
    config.redis.max_readers = config.redis.max_readers.min(limit / A_READER);
    let store = if config.redis.url.is_some() { config.redis.max_readers } else { EMBEDDED };
    let wanted = (config.subscribe.max_subscribers, config.server.max_connections);
    let (streams, connections) = shares(limit, OWN + OF_A_THREAD * threads + store, wanted);
    let asked_for = wanted.0 != SubscribeConfig::default().max_subscribers;
    if streams < wanted.0 && (asked_for || streams < FEW) {
        log::warn!(
            "there can be {connections} connections, {streams} of them streams (subscribe.max_subscribers is {}): {limit} \
             files may be open at once (ulimit -n), and server.max_connections is {}",
            wanted.0,
            wanted.1
        );
    }
    (config.subscribe.max_subscribers, config.server.max_connections) = (streams, connections);
    Ok(())
}

/// How many streams there may be, and connections in all, at most as many as wanted, if the hub itself needs `own`
/// files.
fn shares(limit: u64, own: u64, (streams, connections): (u64, u64)) -> (u64, u64) {
    let left = limit - own.min(limit / 2);
    // Where the files do not bind, nobody asked for a share beyond what health checks and publishes need.
    let share = if left < connections { left / 8 } else { 0 };
    let left = left.min(connections);
    let requests = share.max(REQUESTS.min(left / 2));
    (streams.min(left - requests), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_what_the_hub_does_not_need_itself() {
        let wanted = (50_000, 100_000);
        assert_eq!(shares(1 << 20, 384, wanted), wanted);
        assert_eq!(shares(1 << 20, 384, (200_000, 100_000)), (98_976, 100_000));
        assert_eq!(shares(1 << 20, 384, (40, 40)), (20, 40));
        assert_eq!(shares(100, 384, wanted), (25, 50));
        assert_eq!(shares(1024, 384, wanted), (320, 640));
        assert_eq!(shares(4096, 384, wanted), (2688, 3712));
        assert_eq!(shares(20_000, 384, wanted), (17_164, 19_616));
        assert_eq!(shares(65_536, 384, wanted), (50_000, 65_152));
        assert_eq!(shares(1024, 384, (10, 20)), (10, 20));
        assert_eq!(shares(0, 384, wanted), (0, 0));
    }
}
