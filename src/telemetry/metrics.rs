//! Every metric: its name, its help and where it is counted. No label ever holds a run's name.

use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use std::sync::LazyLock;
use std::time::Duration;

const EVENTS_TAKEN: &str = "runhub_events_published_total";
const EVENTS_DUPLICATE: &str = "runhub_events_duplicate_total";
const EVENTS_LEFT_OUT: &str = "runhub_events_left_out_total";
const PUBLISH_SECONDS: &str = "runhub_publish_seconds";
const APPEND_SECONDS: &str = "runhub_store_append_seconds";
const APPEND_EVENTS: &str = "runhub_store_append_events";
const STORE_FAILURES: &str = "runhub_store_failures_total";
const STORE_UP: &str = "runhub_store_up";
const SUBSCRIBERS: &str = "runhub_subscribers";
const FOLLOWED_RUNS: &str = "runhub_followed_runs";
const CATCH_UPS: &str = "runhub_subscriber_catch_ups_total";
const CUT: &str = "runhub_subscribers_cut_total";
const SPOOLED: &str = "runhub_spool_events_total";
const SPOOL_SECONDS: &str = "runhub_spool_sync_seconds";
const SPOOL_EVENTS: &str = "runhub_spool_events";
const SPOOL_BYTES: &str = "runhub_spool_bytes";
const SPOOL_DAMAGED: &str = "runhub_spool_damaged_total";
const DRAINED: &str = "runhub_spool_drained_events_total";
const MODE: &str = "runhub_mode";
const STUCK: &str = "runhub_stuck_threads_total";
const PANICS: &str = "runhub_actor_panics_total";
const UPCAST_FAILURES: &str = "runhub_upcast_failures_total";
const CONNECTIONS_REFUSED: &str = "runhub_connections_refused_total";
const BODY_BYTES: &str = "runhub_body_bytes";
const RESPONSES: &str = "runhub_http_responses_total";

/// Buckets in seconds, from 100 µs to 10 s.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const EVENTS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0];

/// Installs the recorder of this process. The handle renders what was counted.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Full(APPEND_EVENTS.to_owned()),
            &EVENTS,
        )?
        .install_recorder()?;
    describe_counter!(
        EVENTS_TAKEN,
        "Events the store acknowledged; those that waited in the spool are in runhub_spool_drained_events_total."
    );
    describe_counter!(
        EVENTS_DUPLICATE,
        "Publishes answered from an earlier event with the same event_id."
    );
    describe_counter!(
        EVENTS_LEFT_OUT,
        "Accepted events that were not stored: their event_id turned out to stand for other content."
    );
    describe_histogram!(PUBLISH_SECONDS, "Time from a parsed publish to its outcome, in seconds.");
    describe_histogram!(APPEND_SECONDS, "Time of one append call to the store, in seconds.");
    describe_histogram!(APPEND_EVENTS, "Events in one append call to the store.");
    describe_counter!(STORE_FAILURES, "Failed calls to the store, by what was asked of it.");
    describe_gauge!(STORE_UP, "1 while the store answers, else 0.");
    describe_gauge!(SUBSCRIBERS, "Open streams.");
    describe_gauge!(FOLLOWED_RUNS, "Runs with a reader.");
    describe_counter!(
        CATCH_UPS,
        "Times a subscriber fell behind the live feed and went to the store."
    );
    describe_counter!(CUT, "Streams ended by the hub, by reason.");
    describe_counter!(SPOOLED, "Events put into the spool.");
    describe_histogram!(SPOOL_SECONDS, "Time of one write and sync of the spool, in seconds.");
    describe_gauge!(SPOOL_EVENTS, "Events that wait in the spool.");
    describe_gauge!(SPOOL_BYTES, "Bytes of the spool on the disk.");
    describe_counter!(SPOOL_DAMAGED, "Places of the spool that were found damaged.");
    describe_counter!(DRAINED, "Events that reached the store from the spool.");
    describe_gauge!(MODE, "1 for the mode the hub is in, 0 for the others.");
    describe_counter!(STUCK, "Threads of actors that were stuck and were replaced.");
    describe_counter!(PANICS, "Panics of actors, by actor.");
    describe_counter!(
        UPCAST_FAILURES,
        "Times an event was delivered as stored because an upcaster failed."
    );
    describe_counter!(CONNECTIONS_REFUSED, "Connections closed because there were too many.");
    describe_gauge!(BODY_BYTES, "Memory taken of publish.bodies, for bodies that are being read.");
    describe_counter!(RESPONSES, "HTTP responses, by status class.");
    gauge!(SUBSCRIBERS).set(0.0);
    gauge!(FOLLOWED_RUNS).set(0.0);
    gauge!(BODY_BYTES).set(0.0);
    // What is only seen once it has happened cannot be told from what never was.
    for name in [
        CATCH_UPS,
        CONNECTIONS_REFUSED,
        DRAINED,
        EVENTS_LEFT_OUT,
        SPOOLED,
        SPOOL_DAMAGED,
        STUCK,
        UPCAST_FAILURES,
    ] {
        counter!(name).absolute(0);
    }
    for reason in ["run_finished", "run_deleted", "shutdown", "slow_client"] {
        counter!(CUT, "reason" => reason).absolute(0);
    }
    for operation in ["append", "read back"] {
        counter!(STORE_FAILURES, "operation" => operation).absolute(0);
    }
    for actor in ["WriterActor", "RunActor", "SubscriberActor", "SupervisorActor"] {
        counter!(PANICS, "actor" => actor).absolute(0);
    }
    Ok(handle)
}

/// What is counted for each request. To find a metric by its name costs a lock and several allocations, so these
/// are found once: a recorder that is installed after the first of them does not get them.
struct Frequent {
    taken: Counter,
    duplicate: Counter,
    publish_seconds: Histogram,
    append_seconds: Histogram,
    append_events: Histogram,
    /// Responses of the classes 1xx to 5xx.
    responses: [Counter; 5],
}

static FREQUENT: LazyLock<Frequent> = LazyLock::new(|| Frequent {
    taken: counter!(EVENTS_TAKEN),
    duplicate: counter!(EVENTS_DUPLICATE),
    publish_seconds: histogram!(PUBLISH_SECONDS),
    append_seconds: histogram!(APPEND_SECONDS),
    append_events: histogram!(APPEND_EVENTS),
    responses: ["1xx", "2xx", "3xx", "4xx", "5xx"]
        .map(|class| counter!(RESPONSES, "status" => class)),
});

/// Events were acknowledged by the store, `duplicates` of them earlier.
pub fn published(events: u64, duplicates: u64, waited: Duration) {
    FREQUENT.taken.increment(events - duplicates.min(events));
    FREQUENT.duplicate.increment(duplicates);
    FREQUENT.publish_seconds.record(waited);
}

/// Accepted events were not stored, because their `event_id` stands for other content.
pub fn left_out(events: u64) {
    counter!(EVENTS_LEFT_OUT).increment(events);
}

/// One append call ended.
pub fn appended(events: usize, took: Duration) {
    FREQUENT.append_seconds.record(took);
    #[allow(clippy::cast_precision_loss, reason = "a batch holds a few thousand events at most")]
    FREQUENT.append_events.record(events as f64);
}

/// A call to the store failed.
pub fn store_failed(operation: &'static str) {
    counter!(STORE_FAILURES, "operation" => operation).increment(1);
}

/// Whether the store answers.
pub fn store_up(up: bool) {
    gauge!(STORE_UP).set(if up { 1.0 } else { 0.0 });
}

/// A stream opened (+1) or closed (-1).
pub fn subscribers(change: f64) {
    gauge!(SUBSCRIBERS).increment(change);
}

/// A connection was closed because there are too many.
pub fn connection_refused() {
    counter!(CONNECTIONS_REFUSED).increment(1);
}

/// Bodies took so many bytes more, or fewer.
pub fn body_bytes(change: f64) {
    gauge!(BODY_BYTES).increment(change);
}

/// A run got a reader (+1) or lost it (-1).
pub fn followed_runs(change: f64) {
    gauge!(FOLLOWED_RUNS).increment(change);
}

/// A subscriber went from the live feed back to the store.
pub fn fell_behind() {
    counter!(CATCH_UPS).increment(1);
}

/// Events were put into the spool with one sync.
pub fn spooled(events: u64, took: Duration) {
    counter!(SPOOLED).increment(events);
    histogram!(SPOOL_SECONDS).record(took);
}

/// What waits in the spool.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn spool(events: u64, bytes: u64) {
    gauge!(SPOOL_EVENTS).set(events as f64);
    gauge!(SPOOL_BYTES).set(bytes as f64);
}

/// A place of the spool is damaged.
pub fn spool_damaged() {
    counter!(SPOOL_DAMAGED).increment(1);
}

/// Events of the spool reached the store.
pub fn drained(events: u64) {
    counter!(DRAINED).increment(events);
}

/// The hub is in this mode.
pub fn mode(current: &'static str) {
    for mode in ["normal", "degraded", "recovering"] {
        gauge!(MODE, "mode" => mode).set(if mode == current { 1.0 } else { 0.0 });
    }
}

/// The hub ended a stream.
pub fn stream_closed(reason: &'static str) {
    counter!(CUT, "reason" => reason).increment(1);
}

/// A thread of actors was stuck.
pub fn stuck() {
    counter!(STUCK).increment(1);
}

/// An actor panicked.
pub fn panicked(actor: &'static str) {
    counter!(PANICS, "actor" => actor).increment(1);
}

/// An event was delivered as stored, because an upcaster failed.
pub fn upcast_failed() {
    counter!(UPCAST_FAILURES).increment(1);
}

/// A response was sent.
pub fn responded(status: u16) {
    let class = usize::from(status / 100).clamp(1, 5);
    FREQUENT.responses[class - 1].increment(1);
}
