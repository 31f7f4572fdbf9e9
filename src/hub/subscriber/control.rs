//! The frames that are no events: gaps, the end of the stream, heartbeats. Their names have no dot and
//! they carry no `id:`, so that no client takes them for an event or a cursor.

use super::super::run::Gap;
use crate::event::Timestamp;
use bytes::Bytes;

/// Why the hub ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The run has ended and every event of it was sent.
    RunFinished,
    /// The run was deleted.
    RunDeleted,
    /// The hub stops.
    Shutdown,
    /// The reader took nothing for too long.
    SlowClient,
}

impl CloseReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunFinished => "run_finished",
            Self::RunDeleted => "run_deleted",
            Self::Shutdown => "shutdown",
            Self::SlowClient => "slow_client",
        }
    }
}

/// A control frame.
pub(super) enum Control {
    Gap(Gap),
    Close(CloseReason),
    Heartbeat(Timestamp),
    /// The store is away, since then.
    Degraded(Timestamp),
    /// The store is back and has all that was published meanwhile, since then.
    Recovered(Timestamp),
}

impl Control {
    /// As Server-Sent Events. Everything in it is a number or a constant.
    pub(super) fn to_sse(&self) -> Bytes {
        match self {
            Self::Gap(gap) => {
                let reason = gap.reason.as_str();
                let oldest = gap.oldest.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
                let missed = gap.missed.map_or_else(|| "null".to_owned(), |n| n.to_string());
                let requested = gap.requested;
                format!(
                    "event: gap\ndata: {{\"reason\":\"{reason}\",\"requested\":\"{requested}\",\
                     \"oldest\":{oldest},\"missed\":{missed}}}\n\n"
                )
            }
            Self::Close(reason) => {
                format!("event: close\ndata: {{\"reason\":\"{}\"}}\n\n", reason.as_str())
            }
            Self::Degraded(since) => {
                format!("event: degraded\ndata: {{\"since\":\"{since}\"}}\n\n")
            }
            Self::Recovered(since) => {
                format!("event: recovered\ndata: {{\"since\":\"{since}\"}}\n\n")
            }
            Self::Heartbeat(now) => format!(": heartbeat {now}\n\n"),
        }
        .into()
    }
}
