//! What the steps of an event's way cost, each for itself: `cargo bench --bench micro` (`-- parse` for those with
//! this in their name, `-- --test` to run each once).
//!
//! What Redis is sent is not here: it is the fields (`codec/fields, encode`) between the driver's own bytes.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

mod samples;

use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput};
use criterion::{criterion_group, criterion_main};
use runhub::event::entry::encode_entry;
use runhub::event::packed::{pack, unpack};
use runhub::event::{EncodedBatch, Filter, NewEvent, ReadRules, RunId, Sequence, decode_entry};
use runhub::hub::measured::{Appends, Outboxes};
use runhub::spool::Spool;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

criterion_group!(benches, parse, encode, filter, codec, append, deliver);
criterion_main!(benches);

fn all_fields() -> String {
    let others = concat!(
        r#","event_id":"evt-7f3c2a-000412","correlation_id":"c-9b1d","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
        r#""session_id":"s-1207","conversation_id":"conv-88","message_id":"msg-31","priority":"high","#,
        r#""tags":["draft","research"],"metadata":{"attempt":1,"region":"eu-central-1"},"version":1}"#
    );
    samples::TOKEN.strip_suffix('}').unwrap().to_owned() + others
}

fn large() -> String {
    let output = "A line of what a tool has found.\\n".repeat(4096 / 34);
    format!(r#"{{"type":"tool.end","data":{{"tool":"search","output":"{output}"}}}}"#)
}

fn parse(c: &mut Criterion) {
    let (mut group, run) = (c.benchmark_group("parse"), samples::run());
    for (name, json) in [
        ("small", samples::TOKEN.to_owned()),
        ("all fields", all_fields()),
        ("4 kB of data", large()),
    ] {
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(name, |b| b.iter(|| samples::parse(&run, black_box(&json))));
    }
}

fn encode(c: &mut Criterion) {
    // What is encoded stays until as many are: more of it would be a measurement of fresh memory.
    const AT_ONCE: BatchSize = BatchSize::NumIterations(16);
    let (mut group, rules) = (c.benchmark_group("encode"), ReadRules::default());
    for count in [1, 16, 128] {
        let events = samples::stored(0, count);
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("batch", count), |b| {
            b.iter_batched(|| events.clone(), |events| samples::encode(0, events, &rules), AT_ONCE);
        });
    }
}

fn filter(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter");
    let batch = samples::encode(0, samples::stored(0, 16), &ReadRules::default());
    group.throughput(Throughput::Elements(16));
    for (name, types, agent) in [
        ("everything", None, None),
        ("by type", Some("tool.*,message.delta,llm.stream"), None),
        ("by agent", None, Some("researcher")),
    ] {
        let filter = Filter::parse(types, agent).unwrap();
        let wanted = |batch: &EncodedBatch| {
            batch.events().iter().filter(|event| event.is_wanted(&filter)).count()
        };
        assert_eq!(wanted(&batch), 16);
        group.bench_function(name, |b| b.iter(|| wanted(black_box(&batch))));
    }
}

fn codec(c: &mut Criterion) {
    let (mut group, run) = (c.benchmark_group("codec"), samples::run());
    let event = samples::stored(0, 1).remove(0).event;
    group.bench_function("fields, encode", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            encode_entry(black_box(&event), |name, value| {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(value.as_bytes());
            });
            out.len()
        });
    });
    let mut fields = vec![("sequence", "412".to_owned())];
    encode_entry(&event, |name, value| fields.push((name, value.to_owned())));
    group.bench_function("fields, decode", |b| {
        b.iter(|| {
            let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            decode_entry(&run, samples::position(412), black_box(pairs))
        });
    });
    // The embedded store's records, but for nine bytes before them.
    let mut packed = Vec::new();
    pack(&event, &mut packed);
    group.bench_function("record, encode", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            pack(black_box(&event), &mut out);
            out.len()
        });
    });
    group.bench_function("record, decode", |b| {
        b.iter(|| {
            unpack(&run, samples::position(412), Some(Sequence(412)), black_box(&packed)).unwrap()
        });
    });
}

/// 128 publishes of one event that came while a call to the store was under way, as one batch.
fn append(c: &mut Criterion) {
    const PUBLISHES: u16 = 128;
    let mut group = c.benchmark_group("append");
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), samples::ROOM as u64, samples::ROOM as u64).unwrap();
    let queue = Appends::new(samples::ROOM, spool);
    group.throughput(Throughput::Elements(PUBLISHES.into()));
    for (name, runs) in [("128 publishes to one run", 1), ("128 publishes to 128 runs", 128)] {
        let publish = |n: u16| {
            let run = RunId::parse(&format!("run-{}", n % runs)).unwrap();
            let event = NewEvent::new(samples::parse(&run, samples::TOKEN));
            (run, Arc::from([event]))
        };
        let publishes: Vec<_> = (0..PUBLISHES).map(publish).collect();
        assert_eq!(queue.round(&publishes), usize::from(PUBLISHES));
        group.bench_function(name, |b| b.iter(|| queue.round(black_box(&publishes))));
    }
}

fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver to 1000 outboxes");
    group.throughput(Throughput::Elements(1000));
    for count in [1, 16] {
        group.bench_function(BenchmarkId::new("batch", count), |b| deliver_batches(b, count));
    }
}

/// Each time another batch, right behind the one before; readers take it before the next one comes.
fn deliver_batches(b: &mut Bencher<'_>, count: u64) {
    let rules = ReadRules::default();
    b.iter_custom(|times| {
        let mut outboxes = Outboxes::new(1000, samples::position(0), samples::ROOM);
        let mut took = Duration::ZERO;
        for n in 0..times {
            let events = samples::stored(n * count, count);
            let batch = samples::encode(n * count, events, &rules);
            let began = Instant::now();
            outboxes.deliver(&batch);
            took += began.elapsed();
            assert_eq!(outboxes.take_all(), 1000 * batch.size());
        }
        took
    });
}
