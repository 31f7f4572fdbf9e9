//! The open database and what is kept of it in memory: each run's ledger, the runs by activity, and the
//! `event_id` window. Everything in memory can be read back from the disk, and is, at each opening.

use super::super::appended::Appended;
use super::super::key_window::{Found, KeyWindow};
use super::super::ledger::Ledger;
use super::super::{
    Order, Page, RangeRequest, RunAppend, RunState, RunsCursor, RunsPage, StoreRules, as_ms,
};
use super::{codec, keys};
use crate::config::{EmbeddedConfig, Sync};
use crate::event::{EventId, RunId, RunStatus, Sequence};
use fjall::config::BlockSizePolicy;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;

/// What it takes to open the database.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) rules: StoreRules,
    pub(super) config: EmbeddedConfig,
}

/// Sizes fit for a small server; see `fjall`'s own defaults for a large one.
const MEMTABLE: u64 = 16 << 20;
const SMALL_MEMTABLE: u64 = 4 << 20;
const JOURNAL: u64 = 128 << 20;
const BLOCK: u32 = 16 << 10;
/// Values from this size on are kept apart from the keys.
const LARGE_VALUE: u32 = 4 << 10;
/// With fewer than three, its flushes wait for its compactions.
const THREADS: usize = 3;
/// Files of the database kept open.
const OPEN_FILES: usize = 200;
/// The most events one sweep removes, and as how many a run counts that is forgotten.
const SWEEP_EVENTS: usize = 20_000;
const OF_A_RUN: usize = 4;

const NEXT_NUMBER: &[u8] = b"next_number";
const PROBE: &[u8] = b"probe";

pub(super) struct Engine {
    rules: StoreRules,
    durability: PersistMode,
    events: Keyspace,
    runs: Keyspace,
    window: Keyspace,
    misc: Keyspace,
    ledgers: HashMap<RunId, Ledger>,
    activity: BTreeSet<(u64, RunId)>,
    keys: KeyWindow,
    next_number: u64,
    // Last: a keyspace without its database would not be flushed.
    db: Database,
}

impl Engine {
    pub(super) fn open(settings: &Settings) -> fjall::Result<Self> {
        let db = Database::builder(&settings.path)
            .cache_size(settings.config.cache.0.max(1 << 20))
            .max_journaling_size(JOURNAL)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(THREADS)
            .manual_journal_persist(true)
            .open()?;
        let large = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK))
                .with_kv_separation(Some(
                    KvSeparationOptions::default().separation_threshold(LARGE_VALUE),
                ))
        };
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALL_MEMTABLE);
        let mut engine = Self {
            rules: settings.rules.clone(),
            durability: match settings.config.sync {
                Sync::Always => PersistMode::SyncData,
                Sync::Everysec => PersistMode::Buffer,
            },
            events: db.keyspace("events", large)?,
            runs: db.keyspace("runs", small)?,
            window: db.keyspace("window", small)?,
            misc: db.keyspace("misc", small)?,
            ledgers: HashMap::new(),
            activity: BTreeSet::new(),
            keys: KeyWindow::new(settings.rules.dedup_window),
            next_number: 1,
            db,
        };
        engine.load()?;
        Ok(engine)
    }

    fn load(&mut self) -> fjall::Result<()> {
        if let Some(number) = self.misc.get(NEXT_NUMBER)? {
            let number = <[u8; 8]>::try_from(&*number).map(u64::from_be_bytes);
            self.next_number = number.unwrap_or(self.next_number);
        }
        for item in self.runs.iter() {
            let (key, value) = item.into_inner()?;
            let run = std::str::from_utf8(&key).ok().and_then(|text| RunId::parse(text).ok());
            let ledger = serde_json::from_slice::<Ledger>(&value);
            let (Some(run), Ok(ledger)) = (run, ledger) else {
                log::error!("the embedded store holds a damaged run record; it is left out");
                continue;
            };
            self.next_number = self.next_number.max(ledger.number + 1);
            self.activity.insert((ledger.updated_ms, run.clone()));
            self.ledgers.insert(run, ledger);
        }
        let mut known: Vec<(u64, u64, String, Found)> = Vec::new();
        for item in self.window.iter() {
            let (key, value) = item.into_inner()?;
            let (parts, found) = (keys::parts_of_window(&key), codec::decode_found(&value));
            if let (Some((run, text)), Some((published_ms, found))) = (parts, found) {
                known.push((published_ms, run, text.to_owned(), found));
            }
        }
        known.sort_by_key(|(.., found)| found.id);
        for (published_ms, run, key, found) in known {
            self.keys.insert(run, &key, published_ms, found);
        }
        Ok(())
    }

    /// Appends everything in one commit. After an error the engine must be opened anew.
    pub(super) fn append(
        &mut self,
        appends: &[RunAppend],
        now: u64,
    ) -> fjall::Result<Vec<Appended>> {
        let mut batch = self.db.batch().durability(Some(self.durability));
        self.forget_old_keys(&mut batch, now);
        let mut touched = HashSet::new();
        let mut done = Vec::with_capacity(appends.len());
        for append in appends {
            done.push(self.place(append, now, &mut batch)?);
            touched.insert(append.run.clone());
        }
        for run in &touched {
            self.write_ledger(&mut batch, run);
        }
        batch.commit()?;
        for run in &touched {
            self.trim(run)?;
        }
        Ok(done)
    }

    fn place(
        &mut self,
        append: &RunAppend,
        now: u64,
        batch: &mut OwnedWriteBatch,
    ) -> fjall::Result<Appended> {
        let known = self.ledgers.get(&append.run);
        if known.is_some_and(|ledger| ledger.is_forgotten(now, &self.rules)) {
            self.remove(&append.run, batch)?;
        }
        if !self.ledgers.contains_key(&append.run) {
            let ledger = Ledger::new(self.next_number, now);
            self.next_number += 1;
            batch.insert(&self.misc, NEXT_NUMBER, self.next_number.to_be_bytes());
            self.ledgers.insert(append.run.clone(), ledger);
        }
        let Some(ledger) = self.ledgers.get_mut(&append.run) else {
            return Ok(Appended { previous: EventId::START, outcomes: Vec::new() });
        };
        let would_store = || ledger.would_store(append.writer, &append.publishes, now, &self.keys);
        if ledger.has_expired(now) && would_store() {
            // What has expired must not come back with what is new.
            remove_events(&self.events, ledger, batch)?;
            ledger.revive(now, &self.rules);
        }
        self.activity.remove(&(ledger.updated_ms, append.run.clone()));
        let (number, previous) = (ledger.number, ledger.last_id());
        let (events, window) = (&self.events, &self.window);
        let outcomes =
            ledger.place(append, now, &self.rules, &mut self.keys, |new, placed, index| {
                let value = codec::encode_event(&new.event, placed.sequence);
                batch.insert(events, keys::event(number, placed.id), value);
                if let Some((published_ms, found)) = index {
                    let key = keys::window(number, new.key.as_str());
                    batch.insert(window, key, codec::encode_found(published_ms, found));
                }
            });
        if ledger.is_blank() {
            // All was refused: no run has begun.
            self.ledgers.remove(&append.run);
        } else {
            self.activity.insert((ledger.updated_ms, append.run.clone()));
        }
        Ok(Appended { previous, outcomes })
    }

    fn write_ledger(&self, batch: &mut OwnedWriteBatch, run: &RunId) {
        if let Some(ledger) = self.ledgers.get(run)
            && let Ok(json) = serde_json::to_vec(ledger)
        {
            batch.insert(&self.runs, run.as_str(), json);
        }
    }

    fn forget_old_keys(&mut self, batch: &mut OwnedWriteBatch, now: u64) {
        let window = &self.window;
        self.keys.forget_old(now, |run, key| batch.remove(window, keys::window(run, key)));
    }

    /// Removes the oldest events of a run that holds a tenth more than it should. Done a tenth at a time,
    /// so that the cost of an append does not grow with what is kept.
    fn trim(&mut self, run: &RunId) -> fjall::Result<()> {
        let most = self.rules.max_events;
        let Some(ledger) = self.ledgers.get_mut(run) else { return Ok(()) };
        if ledger.length() <= most + most / 10 {
            return Ok(());
        }
        let excess = ledger.length() - most;
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        let mut oldest = events_of(&self.events, ledger);
        for (removed, item) in (0..).zip(oldest.by_ref()) {
            let key = item.key()?;
            if removed == excess {
                if let Some(id) = keys::id_of_event(&key) {
                    ledger.trimmed_to(id, Sequence(ledger.first_sequence + excess));
                }
                break;
            }
            batch.remove(&self.events, key);
        }
        drop(oldest);
        self.write_ledger(&mut batch, run);
        batch.commit()
    }

    pub(super) fn range(
        &self,
        run: &RunId,
        request: RangeRequest,
        now: u64,
    ) -> fjall::Result<Page> {
        let mut page = Page::default();
        let Some(ledger) = self.ledgers.get(run).filter(|ledger| !ledger.has_expired(now)) else {
            return Ok(page);
        };
        // Not from before the first event kept: what was removed there is slow to skip.
        let start = request.start.max(ledger.first_id());
        if ledger.length() == 0 || start > request.end || start > ledger.last_id() {
            return Ok(page);
        }
        let number = ledger.number;
        let range =
            self.events.range(keys::event(number, start)..=keys::event(number, request.end));
        let mut bytes = 0;
        let mut take = |item: fjall::Guard| -> fjall::Result<bool> {
            if page.events.len() >= request.limit || bytes >= request.enough_bytes {
                page.more = true;
                return Ok(false);
            }
            let (key, value) = item.into_inner()?;
            bytes += value.len();
            match keys::id_of_event(&key).and_then(|id| codec::decode_event(run, id, &value)) {
                Some(event) => page.events.push(event),
                None => log::error!("run {run} holds a damaged event; it is left out"),
            }
            Ok(true)
        };
        match request.order {
            Order::Ascending => {
                for item in range {
                    if !take(item)? {
                        break;
                    }
                }
            }
            Order::Descending => {
                for item in range.rev() {
                    if !take(item)? {
                        break;
                    }
                }
            }
        }
        Ok(page)
    }

    pub(super) fn run(&self, run: &RunId, now: u64) -> RunState {
        self.ledgers.get(run).map_or(RunState::Unknown, |ledger| ledger.state(now, &self.rules))
    }

    pub(super) fn runs(
        &self,
        after: Option<&RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
        now: u64,
    ) -> RunsPage {
        let mut page = RunsPage::default();
        let end = after.map_or(Bound::Unbounded, |a| Bound::Excluded((a.ms, a.run.clone())));
        let behind = self.activity.range((Bound::Unbounded, end)).rev();
        for (ms, run) in behind {
            let RunState::Known(info) = self.run(run, now) else { continue };
            if status.is_some_and(|s| s != info.status) {
                continue;
            }
            if page.runs.len() == limit {
                let last = page.runs.last();
                page.next = last.map(|(run, i)| RunsCursor { ms: i.updated_ms, run: run.clone() });
                break;
            }
            debug_assert_eq!(*ms, info.updated_ms);
            page.runs.push((run.clone(), info));
        }
        page
    }

    pub(super) fn set_expiry(
        &mut self,
        run: &RunId,
        after: Duration,
        now: u64,
    ) -> fjall::Result<RunState> {
        let Some(ledger) = self.ledgers.get_mut(run) else { return Ok(RunState::Unknown) };
        if !ledger.has_expired(now) {
            ledger.expire_at(now.saturating_add(as_ms(after)));
        }
        let mut batch = self.db.batch().durability(Some(self.durability));
        self.write_ledger(&mut batch, run);
        batch.commit()?;
        Ok(self.run(run, now))
    }

    pub(super) fn delete(&mut self, run: &RunId, now: u64) -> fjall::Result<bool> {
        let known = self.run(run, now) != RunState::Unknown;
        let mut batch = self.db.batch().durability(Some(self.durability));
        self.remove(run, &mut batch)?;
        batch.commit()?;
        Ok(known)
    }

    /// Forgets a run and everything of it; gives the number of its events.
    fn remove(&mut self, run: &RunId, batch: &mut OwnedWriteBatch) -> fjall::Result<usize> {
        let Some(mut ledger) = self.ledgers.remove(run) else { return Ok(0) };
        self.activity.remove(&(ledger.updated_ms, run.clone()));
        batch.remove(&self.runs, run.as_str());
        remove_events(&self.events, &mut ledger, batch)
    }

    pub(super) fn probe(&self, now: u64) -> fjall::Result<bool> {
        let mut batch = self.db.batch().durability(Some(self.durability));
        batch.insert(&self.misc, PROBE, now.to_be_bytes());
        batch.commit()?;
        Ok(self.misc.get(PROBE)?.is_some_and(|value| *value == now.to_be_bytes()))
    }

    /// Removes the events of expired runs, a bounded number of them, and runs that are forgotten.
    pub(super) fn sweep(&mut self, now: u64) -> fjall::Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        self.forget_old_keys(&mut batch, now);
        let expired: Vec<RunId> = self
            .ledgers
            .iter()
            .filter(|(_, l)| {
                l.has_expired(now) && (l.length() > 0 || l.is_forgotten(now, &self.rules))
            })
            .map(|(run, _)| run.clone())
            .collect();
        let mut removed = 0;
        for run in expired {
            let Some(ledger) = self.ledgers.get_mut(&run) else { continue };
            if ledger.is_forgotten(now, &self.rules) {
                removed += OF_A_RUN + self.remove(&run, &mut batch)?;
            } else {
                removed += remove_events(&self.events, ledger, &mut batch)?;
                self.write_ledger(&mut batch, &run);
            }
            if removed >= SWEEP_EVENTS {
                break;
            }
        }
        batch.commit()
    }

    /// Puts everything committed onto the disk.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncData)
    }
}

/// The events of a run that are kept, oldest first. From the first one kept on: what was removed before
/// it is slow to skip.
fn events_of(events: &Keyspace, ledger: &Ledger) -> fjall::Iter {
    let from = keys::event(ledger.number, ledger.first_id());
    events.range(from..=keys::event(ledger.number, EventId::MAX))
}

/// Removes all events of a run; gives their number.
fn remove_events(
    events: &Keyspace,
    ledger: &mut Ledger,
    batch: &mut OwnedWriteBatch,
) -> fjall::Result<usize> {
    let mut removed = 0;
    for item in events_of(events, ledger) {
        batch.remove(events, item.key()?);
        removed += 1;
    }
    ledger.emptied();
    Ok(removed)
}
