//! How many files may be open at once, and how many of them are for clients. Without bounds of its own a hub whose
//! clients have taken all descriptors could neither dial Redis nor write its spool.

use crate::config::Config;

/// For the hub itself: its threads, its links to Redis, the spool and what a store keeps open.
const OWN: u64 = 384;
/// Connections that are no streams, for which room is kept where there is little.
const REQUESTS: u64 = 1024;
/// A limit below this is worth a word even if nobody has asked for many readers.
const FEW: u64 = 4096;

/// Raises the limit of open files as far as it goes, and bounds streams and connections by what is left of it.
pub(super) fn bound_clients(config: &mut Config) {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(e) => return log::warn!("cannot raise the limit of open files: {e}"),
    };
    let wanted = (config.subscribe.max_subscribers, config.server.max_connections);
    let (streams, connections) = shares(limit, wanted);
    if limit < FEW {
        log::warn!(
            "only {limit} files may be open at once (ulimit -n): there can be {connections} connections, {streams} of \
             them streams"
        );
    }
    (config.subscribe.max_subscribers, config.server.max_connections) = (streams, connections);
}

/// How many streams there may be, and connections in all, at most as many as wanted.
fn shares(limit: u64, (streams, connections): (u64, u64)) -> (u64, u64) {
    let left = connections.min(limit - OWN.min(limit / 2));
    let requests = (left / 8).max(REQUESTS.min(left / 2));
    (streams.min(left - requests), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_what_the_hub_does_not_need_itself() {
        let wanted = (50_000, 100_000);
        assert_eq!(shares(1 << 20, wanted), wanted);
        assert_eq!(shares(100, wanted), (25, 50));
        assert_eq!(shares(1024, wanted), (320, 640));
        assert_eq!(shares(4096, wanted), (2688, 3712));
        assert_eq!(shares(20_000, wanted), (17_164, 19_616));
        assert_eq!(shares(65_536, wanted), (50_000, 65_152));
        assert_eq!(shares(1024, (10, 20)), (10, 20));
        assert_eq!(shares(0, wanted), (0, 0));
    }
}
