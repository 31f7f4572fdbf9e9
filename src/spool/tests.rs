//! The spool on a real disk: what is acknowledged is there after a restart, in order and once; what is
//! damaged costs itself alone.

use super::{OpenError, Spool, SpoolError, SpooledPublish};
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{NewEvent, RunId, Timestamp};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);
const LARGE: u64 = 1 << 30;

fn run(name: &str) -> RunId {
    RunId::parse(name).unwrap()
}

/// A publish of so many events, whose data is its number.
pub(super) fn publish(name: &str, number: u64, events: usize) -> SpooledPublish {
    sized(name, number, events, 0)
}

fn sized(name: &str, number: u64, events: usize, padding: usize) -> SpooledPublish {
    let limits = EventLimits { max_data: 1 << 24 };
    let padding = "x".repeat(padding);
    let json =
        format!(r#"{{"type":"a.b","data":[{number},"{padding}"],"source":{{"agent_id":"é"}}}}"#);
    let event = parse_event(&run(name), &json, Timestamp::from_ms(number), limits).unwrap();
    let events: Vec<_> = (0..events).map(|_| NewEvent::new(event.clone())).collect();
    SpooledPublish {
        run: run(name),
        writer: 7,
        number,
        published_ms: 1000 + number,
        events: events.into(),
    }
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, LARGE, LARGE).unwrap()
}

fn append(spool: &Spool, publish: SpooledPublish) -> Receiver<Result<(), SpoolError>> {
    let (told, outcome) = channel();
    let done = move |result| drop(told.send(result));
    match spool.reserve(std::slice::from_ref(&publish)) {
        Ok(()) => spool.append(publish, Box::new(done)),
        Err(error) => done(Err(error)),
    }
    outcome
}

fn put(spool: &Spool, publish: SpooledPublish) {
    append(spool, publish).recv_timeout(PATIENCE).unwrap().unwrap();
}

fn flush(spool: &Spool) {
    let (told, flushed) = channel();
    spool.flush(move || told.send(()).unwrap());
    flushed.recv_timeout(PATIENCE).unwrap();
}

/// The numbers of all publishes of a run that wait.
fn numbers(spool: &Spool, name: &str) -> Vec<u64> {
    let all = spool.oldest(&run(name), usize::MAX, usize::MAX).unwrap();
    all.into_iter().map(|waiting| waiting.publish.number).collect()
}

fn seq_of(spool: &Spool, name: &str, number: u64) -> u64 {
    let all = spool.oldest(&run(name), usize::MAX, usize::MAX).unwrap();
    all.iter().find(|waiting| waiting.publish.number == number).unwrap().place
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "spool")).collect();
    files.sort();
    files
}

#[test]
fn what_is_acknowledged_outlives_the_process_in_order_until_it_is_drained() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let outcomes: Vec<_> = (1..=300)
        .map(|n| append(&spool, publish(if n % 3 == 0 { "b" } else { "a" }, n, 2)))
        .collect();
    for outcome in outcomes {
        outcome.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    assert_eq!(spool.status().events, 600);
    drop(spool);

    let spool = open(dir.path());
    let status = spool.status();
    assert_eq!(status.events, 600);
    assert!(status.bytes > 0 && status.oldest_ms.is_some());
    let of_b: Vec<u64> = (1..=100).map(|n| n * 3).collect();
    assert_eq!(numbers(&spool, "b"), of_b);
    assert_eq!(spool.oldest(&run("b"), 10, usize::MAX).unwrap().len(), 5, "two events each");
    spool.drained(&run("b"), seq_of(&spool, "b", 150));
    put(&spool, publish("b", 301, 1));
    flush(&spool);
    drop(spool);

    let spool = open(dir.path());
    let left: Vec<u64> = of_b.into_iter().filter(|n| *n > 150).chain([301]).collect();
    assert_eq!(numbers(&spool, "b"), left);
    assert_eq!(numbers(&spool, "a").len(), 200);
    for name in ["a", "b"] {
        let last = spool.oldest(&run(name), usize::MAX, usize::MAX).unwrap().last().unwrap().place;
        spool.drained(&run(name), last);
    }
    flush(&spool);
    assert_eq!((spool.status().events, spool.status().bytes), (0, 0));
    assert!(segments(dir.path()).is_empty(), "nothing is left on the disk");
}

#[test]
fn files_are_the_owners_alone_and_the_folder_one_hubs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data").join("spool");
    let spool = open(&folder);
    put(&spool, publish("a", 1, 1));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let second = Spool::open(&folder, LARGE, LARGE);
    assert!(second.unwrap_err().to_string().contains("in use by another hub"));
    drop(spool);
    assert_eq!(numbers(&open(&folder), "a"), [1]);
}

#[test]
fn a_full_spool_refuses_and_keeps_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 100_000, LARGE).unwrap();
    let mut taken = 0;
    let refused = loop {
        match append(&spool, sized("a", taken + 1, 1, 5_000)).recv_timeout(PATIENCE).unwrap() {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SpoolError::Full);
    assert!((10..=20).contains(&taken), "{taken} publishes of 5,000 bytes within 100,000");
    assert_eq!(numbers(&spool, "a"), (1..=taken).collect::<Vec<_>>());
    assert!(spool.status().bytes <= 100_000);
    let last = seq_of(&spool, "a", taken);
    spool.drained(&run("a"), last);
    flush(&spool);
    put(&spool, publish("a", taken + 1, 1));
}

#[test]
fn memory_on_the_way_to_the_disk_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), LARGE, 50_000).unwrap();
    let outcomes: Vec<_> = (1..=200).map(|n| append(&spool, sized("a", n, 1, 20_000))).collect();
    let told: Vec<_> = outcomes.into_iter().map(|o| o.recv_timeout(PATIENCE).unwrap()).collect();
    let kept = told.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(numbers(&spool, "a").len(), kept);
    assert!(kept >= 1);
    // However large, one alone is taken.
    put(&spool, sized("b", 1, 1, 200_000));
}

#[test]
fn a_torn_tail_is_cut_and_a_damaged_middle_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for n in 1..=9 {
        put(&spool, publish("a", n, 1));
    }
    drop(spool);
    let [segment] = segments(dir.path()).try_into().unwrap();
    let whole = fs::read(&segment).unwrap();

    fs::write(&segment, &whole[..whole.len() - 5]).unwrap();
    let spool = open(dir.path());
    assert_eq!(numbers(&spool, "a"), (1..=8).collect::<Vec<_>>());
    // What comes later is not behind the torn record.
    put(&spool, publish("a", 10, 1));
    drop(spool);
    assert_eq!(numbers(&open(dir.path()), "a"), [1, 2, 3, 4, 5, 6, 7, 8, 10]);

    let mut damaged = fs::read(&segment).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let spool = open(dir.path());
    let left = numbers(&spool, "a");
    assert_eq!(left.len(), 8, "{left:?}");
    assert!(left.is_sorted() && left.contains(&1) && left.contains(&10));
    assert_eq!(fs::read(segment.with_extension("damaged")).unwrap(), damaged);
}

#[test]
fn what_the_disk_spoils_while_it_waits_is_said_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for n in 1..=3 {
        put(&spool, publish("a", n, 1));
    }
    let [segment] = segments(dir.path()).try_into().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    assert_eq!(numbers(&spool, "a"), [1, 3]);
    let last = seq_of(&spool, "a", 3);
    spool.drained(&run("a"), last);
    flush(&spool);
    assert_eq!((spool.status().events, segments(dir.path()).len()), (0, 0));
    assert!(segment.with_extension("damaged").exists());
}

#[test]
fn one_run_that_stays_does_not_keep_the_others_segments() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, publish("stays", 1, 1));
    let mut most = 0;
    for n in 1..=30 {
        put(&spool, sized("goes", n, 1, 4 << 20));
        put(&spool, publish("stays", n + 1, 1));
        let last = seq_of(&spool, "goes", n);
        spool.drained(&run("goes"), last);
        flush(&spool);
        most = most.max(spool.status().bytes);
    }
    assert!(most < 64 << 20, "{most} bytes on the disk for a few hundred that wait");
    assert_eq!(numbers(&spool, "stays"), (1..=31).collect::<Vec<_>>());
    drop(spool);
    let spool = open(dir.path());
    assert_eq!(numbers(&spool, "stays"), (1..=31).collect::<Vec<_>>());
    assert_eq!(spool.waiting(&run("goes")), 0);
}

#[test]
fn a_disk_that_fails_refuses_and_the_spool_goes_on_when_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, publish("a", 1, 1));
    drop(spool);
    let spool = open(dir.path());
    // Something is in the way of the next segment.
    let next = super::load::path_of(dir.path(), 2);
    fs::create_dir(&next).unwrap();
    let told = append(&spool, publish("a", 2, 1)).recv_timeout(PATIENCE).unwrap();
    assert!(matches!(told, Err(SpoolError::Failed { .. })), "{told:?}");
    assert!(spool.status().trouble.is_some());
    assert_eq!(numbers(&spool, "a"), [1]);
    fs::remove_dir(&next).unwrap();
    put(&spool, publish("a", 3, 1));
    assert_eq!(numbers(&spool, "a"), [1, 3]);
    assert!(spool.status().trouble.is_none());
    assert_eq!(spool.runs(), [(run("a"), 2)]);
}

/// What the spool says when it is asked to make sure of what was drained.
fn settles(spool: &Spool) -> Result<(), SpoolError> {
    let (settled, outcome) = std::sync::mpsc::channel();
    spool.settle(move |told| settled.send(told).unwrap());
    outcome.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn what_could_not_be_noted_is_noted_as_soon_as_the_disk_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    ["a", "b", "stays"].into_iter().for_each(|name| put(&spool, publish(name, 1, 1)));
    drop(spool);
    let spool = open(dir.path());
    let next = super::load::path_of(dir.path(), 2);
    fs::create_dir(&next).unwrap();
    for name in ["a", "b"] {
        spool.drained(&run(name), seq_of(&spool, name, 1));
        let told = settles(&spool).unwrap_err();
        assert!(told.to_string().contains("could not be noted"), "{told}");
    }
    fs::remove_dir(&next).unwrap();
    assert_eq!(settles(&spool), Ok(()));
    drop(spool);
    assert_eq!(open(dir.path()).runs(), [(run("stays"), 1)]);
}

#[test]
fn a_drained_file_that_somebody_removed_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, publish("a", 1, 1));
    segments(dir.path()).iter().for_each(|segment| fs::remove_file(segment).unwrap());
    spool.drained(&run("a"), seq_of(&spool, "a", 1));
    assert_eq!(settles(&spool), Ok(()));
}

#[test]
fn files_that_somebody_removed_are_written_again_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    let spool = open(&folder);
    // Each has a segment of its own.
    (1..=3).for_each(|n| put(&spool, sized("a", n, 2, 9 << 20)));
    put(&spool, publish("b", 4, 1));
    let files = segments(&folder);
    assert_eq!(files.len(), 4);
    [1, 3].into_iter().for_each(|n| fs::remove_file(&files[n]).unwrap());
    put(&spool, publish("a", 5, 1));
    drop(spool);
    let spool = open(&folder);
    assert_eq!((numbers(&spool, "a"), numbers(&spool, "b")), (vec![1, 2, 3, 5], vec![4]));
    fs::remove_dir_all(&folder).unwrap();
    put(&spool, publish("b", 6, 1));
    assert!(matches!(Spool::open(&folder, LARGE, LARGE), Err(OpenError::InUse(_))));
    spool.drained(&run("a"), seq_of(&spool, "a", 2));
    drop(spool);
    let spool = open(&folder);
    assert_eq!((numbers(&spool, "a"), numbers(&spool, "b")), (vec![3, 5], vec![4, 6]));
}
