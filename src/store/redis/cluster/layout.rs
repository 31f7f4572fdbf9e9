//! The servers of a cluster as they are known to be now, each with its connections, and who has which keys.

use super::slots::{Address, SlotMap, slot_of};
use crate::store::StoreError;
use crate::store::redis::keys::PROBE;
use crate::store::redis::server::Server;
use futures::future::join_all;
use std::collections::HashMap;

/// What is known of a cluster at a time.
#[derive(Clone, Default)]
pub(super) struct Layout {
    pub(super) slots: SlotMap,
    pub(super) servers: HashMap<Address, Server>,
}

impl Layout {
    /// With these slots, and with the servers that have any of them; those that were there before stay as they are.
    pub(super) fn with(&self, slots: SlotMap, connect: impl Fn(&Address) -> Server) -> Self {
        let servers = slots.servers().into_iter().map(|address| {
            let known = self.servers.get(address).cloned();
            (address.clone(), known.unwrap_or_else(|| connect(address)))
        });
        Self { servers: servers.collect(), slots }
    }

    /// Where the server of a key is, and the server.
    pub(super) fn server_of(&self, key: &str) -> Result<(&Address, &Server), StoreError> {
        let slot = slot_of(key);
        let address = self.slots.server_of(slot);
        address
            .and_then(|address| self.servers.get_key_value(address))
            .ok_or_else(|| no_server(slot))
    }

    /// Writes on each server and reads back, under the key of this number among those that are the server's. An error if
    /// no server has one of the slots.
    pub(super) async fn probe(&self, number: usize) -> Result<(), StoreError> {
        if let Some(slot) = self.slots.missing() {
            return Err(no_server(slot));
        }
        let probes = self.servers.iter().map(|(address, server)| async move {
            match self.probe_key(address, number) {
                Some(key) => server.write_and_read_back(&key).await,
                None => Ok(()),
            }
        });
        join_all(probes).await.into_iter().collect()
    }

    fn probe_key(&self, address: &Address, number: usize) -> Option<String> {
        // A server that has a slot or two has one in some thousand keys.
        let keys = (0..200_000).map(|n| format!("{PROBE}:{n}"));
        keys.filter(|key| self.slots.server_of(slot_of(key)) == Some(address)).nth(number)
    }
}

fn no_server(slot: u16) -> StoreError {
    StoreError::Unreachable { reason: format!("no server of the cluster has slot {slot}") }
}
