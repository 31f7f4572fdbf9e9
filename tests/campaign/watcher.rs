//! The watcher: asks for the hub's mode all the time, and writes down what is new.

use super::shared::Shared;
use super::wire::Wire;
use crate::common::Request;
use crate::history::What;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(1);

/// What `/health/ready` says: the mode, and how many events are spooled.
pub type Health = (String, u64);

/// Watches until all is over.
pub fn watch(shared: &Shared) {
    let mut wire = Wire::to(shared.port(), PATIENCE);
    let mut before: Option<(String, bool)> = None;
    while !shared.stop_reading.load(Ordering::Acquire) {
        let (mode, spooled) = ask(&mut wire);
        // How much is spooled changes all the time; whether something is, is worth a line.
        let now = Some((mode.clone(), spooled > 0));
        if now != before {
            shared.record(What::Health { mode, spooled });
            before = now;
        }
        std::thread::sleep(EVERY);
    }
}

/// The hub's health; `away` while it does not answer.
pub fn ask(wire: &mut Wire) -> Health {
    let answer = wire.exchange(&Request::new("GET", "/health/ready"));
    let ready: Option<Value> = answer
        .ok()
        .filter(|answer| answer.status == 200)
        .and_then(|answer| serde_json::from_slice(&answer.body).ok());
    let mode = ready.as_ref().and_then(|ready| ready["mode"].as_str()).unwrap_or("away");
    let spooled = ready.as_ref().and_then(|ready| ready["spool"]["events"].as_u64());
    (mode.to_owned(), spooled.unwrap_or(0))
}
