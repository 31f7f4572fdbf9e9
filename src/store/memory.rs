//! A store in memory, for tests and for trying things out: the same behaviour, nothing outlives it.

use super::appended::Appended;
use super::follow::follow;
use super::followers::Followers;
use super::key_window::KeyWindow;
use super::ledger::Ledger;
use super::{
    Answer, LogStore, Order, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreRules, StoreStatus, Tail, as_ms, now_ms,
};
use crate::event::{EventId, RunId, RunStatus, StoredEvent};
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A store in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: StoreRules,
    state: Mutex<State>,
    followers: Arc<Followers>,
}

#[derive(Debug)]
struct State {
    runs: HashMap<RunId, Run>,
    keys: KeyWindow,
    next_number: u64,
}

#[derive(Debug)]
struct Run {
    ledger: Ledger,
    events: BTreeMap<EventId, StoredEvent>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(rules: StoreRules) -> Self {
        let keys = KeyWindow::new(rules.dedup_window);
        let state = State { runs: HashMap::new(), keys, next_number: 1 };
        let inner = Inner { rules, state: Mutex::new(state), followers: Arc::default() };
        Self { inner: Arc::new(inner) }
    }

    fn append_run(&self, append: &RunAppend) -> Appended {
        let (rules, now) = (&self.inner.rules, now_ms());
        let mut state = self.inner.state.lock();
        let State { runs, keys, next_number } = &mut *state;
        keys.forget_old(now, |_, _| {});
        if runs.get(&append.run).is_some_and(|run| run.ledger.is_forgotten(now, rules)) {
            runs.remove(&append.run);
        }
        let run = runs.entry(append.run.clone()).or_insert_with(|| {
            *next_number += 1;
            Run { ledger: Ledger::new(*next_number, now), events: BTreeMap::new() }
        });
        let would_store = || run.ledger.would_store(append.writer, &append.publishes, now, keys);
        if run.ledger.has_expired(now) && would_store() {
            run.events.clear();
            run.ledger.emptied();
            run.ledger.revive(now, rules);
        }
        let previous = run.ledger.last_id();
        let outcomes = run.ledger.place(append, now, rules, keys, |new, placed, _| {
            let event = new.event.clone();
            let stored = StoredEvent { id: placed.id, sequence: Some(placed.sequence), event };
            run.events.insert(placed.id, stored);
        });
        while run.events.len() as u64 > rules.max_events {
            run.events.pop_first();
        }
        if let Some((id, first)) = run.events.first_key_value()
            && let Some(sequence) = first.sequence
        {
            run.ledger.trimmed_to(*id, sequence);
        }
        if run.ledger.is_blank() {
            // All was refused: no run has begun.
            runs.remove(&append.run);
        }
        Appended { previous, outcomes }
    }

    fn page(&self, run: &RunId, request: RangeRequest) -> Page {
        let state = self.inner.state.lock();
        let Some(run) = state.runs.get(run).filter(|run| !run.ledger.has_expired(now_ms())) else {
            return Page::default();
        };
        if request.start > request.end {
            return Page::default();
        }
        let range = run.events.range(request.start..=request.end).map(|(_, event)| event);
        match request.order {
            Order::Ascending => fill(range, request),
            Order::Descending => fill(range.rev(), request),
        }
    }
}

fn fill<'e>(events: impl Iterator<Item = &'e StoredEvent>, request: RangeRequest) -> Page {
    let (mut page, mut bytes) = (Page::default(), 0);
    for event in events {
        if page.events.len() >= request.limit || bytes >= request.enough_bytes {
            page.more = true;
            break;
        }
        bytes += event.event.data.len() + 256;
        page.events.push(event.clone());
    }
    page
}

impl LogStore for MemoryStore {
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>> {
        let done: Vec<_> = appends.iter().map(|append| self.append_run(append)).collect();
        self.inner.followers.tell_all(appends, &done);
        Box::pin(ready(done.into_iter().map(|appended| Ok(appended.outcomes)).collect()))
    }

    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        Box::pin(ready(Ok(self.page(run, request))))
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Answer<'a, RunState> {
        let state = self.inner.state.lock();
        let found = state.runs.get(run).map(|run| run.ledger.state(now_ms(), &self.inner.rules));
        Box::pin(ready(Ok(found.unwrap_or(RunState::Unknown))))
    }

    fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage> {
        let (now, state) = (now_ms(), self.inner.state.lock());
        let mut runs: Vec<_> = state.runs.iter().collect();
        runs.sort_by(|a, b| (b.1.ledger.updated_ms, b.0).cmp(&(a.1.ledger.updated_ms, a.0)));
        let behind = |ms: u64, run: &RunId| after.is_none_or(|a| (ms, run) < (a.ms, &a.run));
        let mut page = RunsPage::default();
        for (id, run) in runs {
            let RunState::Known(info) = run.ledger.state(now, &self.inner.rules) else { continue };
            if !behind(info.updated_ms, id) || status.is_some_and(|s| s != info.status) {
                continue;
            }
            if page.runs.len() == limit {
                let last = page.runs.last();
                page.next = last.map(|(run, i)| RunsCursor { ms: i.updated_ms, run: run.clone() });
                break;
            }
            page.runs.push((id.clone(), info));
        }
        Box::pin(ready(Ok(page)))
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        let (now, mut state) = (now_ms(), self.inner.state.lock());
        let changed = state.runs.get_mut(run).map(|run| {
            if !run.ledger.has_expired(now) {
                run.ledger.expire_at(now.saturating_add(as_ms(after)));
            }
            run.ledger.state(now, &self.inner.rules)
        });
        Box::pin(ready(Ok(changed.unwrap_or(RunState::Unknown))))
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        let mut state = self.inner.state.lock();
        let removed = state.runs.remove(run);
        let forgotten = |run: &Run| run.ledger.is_forgotten(now_ms(), &self.inner.rules);
        let known = removed.as_ref().is_some_and(|run| !forgotten(run));
        // Its tails are not woken: they find out in a moment, after the hub has told its readers why.
        Box::pin(ready(Ok(known)))
    }

    fn tail(&self, run: &RunId, after: EventId) -> Tail {
        follow(self.clone(), &self.inner.followers, run, after)
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        let (now, mut state) = (now_ms(), self.inner.state.lock());
        let State { runs, keys, .. } = &mut *state;
        keys.forget_old(now, |_, _| {});
        runs.retain(|_, run| {
            if run.ledger.has_expired(now) {
                run.events.clear();
                run.ledger.emptied();
            }
            !run.ledger.is_forgotten(now, &self.inner.rules)
        });
        Box::pin(ready(Ok(())))
    }

    fn status(&self) -> StoreStatus {
        StoreStatus { kind: "memory", place: "this process".to_owned(), trouble: None }
    }
}
