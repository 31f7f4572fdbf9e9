//! The servers of a cluster as they are known to be now, each with its connections, and who has which keys.

use super::slots::{Address, SlotMap, slot_of};
use crate::store::StoreError;
use crate::store::redis::keys::PROBE;
use crate::store::redis::server::Server;
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What is known of a cluster at a time.
#[derive(Clone, Default)]
pub(super) struct Layout {
    pub(super) slots: SlotMap,
    pub(super) servers: HashMap<Address, Server>,
    probe_keys: OnceLock<HashMap<Address, Vec<String>>>,
}

/// Keys to probe a server with: one of them may be in a slot that is just moving.
const PROBE_KEYS: usize = 4;

impl Layout {
    /// With these slots, and with the servers that have any of them; those that were there before stay as they are.
    pub(super) fn with(&self, slots: SlotMap, connect: impl Fn(&Address) -> Server) -> Self {
        let servers = slots.servers().into_iter().map(|address| {
            let known = self.servers.get(address).cloned();
            (address.clone(), known.unwrap_or_else(|| connect(address)))
        });
        Self { servers: servers.collect(), slots, probe_keys: OnceLock::new() }
    }

    /// Where the server of a key is, and the server.
    pub(super) fn server_of(&self, key: &str) -> Result<(&Address, &Server), StoreError> {
        let slot = slot_of(key);
        let address = self.slots.server_of(slot);
        address
            .and_then(|address| self.servers.get_key_value(address))
            .ok_or_else(|| no_server(slot))
    }

    /// Writes on each server and reads back, under one of a few keys, by turns. An error if no server has one of the
    /// slots.
    pub(super) async fn probe(&self, turn: usize) -> Result<(), StoreError> {
        if let Some(slot) = self.slots.missing() {
            return Err(no_server(slot));
        }
        let keys = self.probe_keys.get_or_init(|| probe_keys(&self.slots));
        let probes = self.servers.iter().map(|(address, server)| async move {
            let keys = keys.get(address).map(Vec::as_slice).unwrap_or_default();
            match keys.get(turn % keys.len().max(1)) {
                Some(key) => server.write_and_read_back(key).await,
                None => Ok(()),
            }
        });
        join_all(probes).await.into_iter().collect()
    }
}

/// A few keys of each server, in several slots if it has them.
fn probe_keys(slots: &SlotMap) -> HashMap<Address, Vec<String>> {
    let mut keys: HashMap<Address, Vec<String>> = HashMap::new();
    let (mut full, servers) = (0, slots.servers().len());
    // A server that has a slot or two has one in some thousand keys.
    for key in (0..200_000).map(|n| format!("{PROBE}:{n}")) {
        let Some(address) = slots.server_of(slot_of(&key)) else { continue };
        let keys = keys.entry(address.clone()).or_default();
        if keys.len() < PROBE_KEYS {
            keys.push(key);
            full += usize::from(keys.len() == PROBE_KEYS);
        }
        if full == servers {
            break;
        }
    }
    keys
}

fn no_server(slot: u16) -> StoreError {
    StoreError::Unreachable { reason: format!("no server of the cluster has slot {slot}") }
}
