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

/// What a stream says besides events.
#[derive(Debug, Clone)]
pub enum Control {
    /// Events are missing.
    Gap(Gap),
    /// The stream ends here.
    Close(CloseReason),
    /// The store is away, since then.
    Degraded(Timestamp),
    /// The store is back and has all that was published meanwhile, since then.
    Recovered(Timestamp),
}

impl Control {
    /// The word on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Gap(_) => "gap",
            Self::Close(_) => "close",
            Self::Degraded(_) => "degraded",
            Self::Recovered(_) => "recovered",
        }
    }

    /// Its members as JSON, without the braces. Everything in it is a number or a constant.
    pub fn members(&self) -> String {
        match self {
            Self::Gap(gap) => {
                let reason = gap.reason.as_str();
                let oldest = gap.oldest.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
                let missed = gap.missed.map_or_else(|| "null".to_owned(), |n| n.to_string());
                let requested = gap.requested;
                format!(
                    "\"reason\":\"{reason}\",\"requested\":\"{requested}\",\
                     \"oldest\":{oldest},\"missed\":{missed}"
                )
            }
            Self::Close(reason) => format!("\"reason\":\"{}\"", reason.as_str()),
            Self::Degraded(since) | Self::Recovered(since) => format!("\"since\":\"{since}\""),
        }
    }

    /// As a frame of Server-Sent Events.
    pub fn to_sse(&self) -> Bytes {
        format!("event: {}\ndata: {{{}}}\n\n", self.name(), self.members()).into()
    }
}

/// The comment that keeps a silent stream open.
pub fn heartbeat(now: Timestamp) -> Bytes {
    format!(": heartbeat {now}\n\n").into()
}
