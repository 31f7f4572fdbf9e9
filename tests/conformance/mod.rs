//! The suite that every store passes: what [`runhub::store::LogStore`] promises, store by store.
//!
//! A check is an async function of a [`Bench`], which opens stores with the rules the check asks
//! for. A new store joins by a variant and a constructor of `Bench`, and by its name in
//! `on_every_store!`; if what it keeps outlives the handle on it, in `on_lasting_stores!` too.

// Before the modules: they see macros that were defined above them.

/// Makes each check a test on every store.
macro_rules! on_every_store {
    ($($check:ident),* $(,)?) => { on_stores!([memory, embedded, redis, redis_cluster], [$($check),*]); };
}

/// Makes each check a test on Redis alone.
macro_rules! on_redis {
    ($($check:ident),* $(,)?) => { on_stores!([redis], [$($check),*]); };
}

/// Makes each check a test on Redis where job streams are served.
macro_rules! on_redis_with_jobs {
    ($($check:ident),* $(,)?) => { on_stores!([redis_with_jobs], [$($check),*]); };
}

/// Makes each check a test on every store whose content can be opened again.
macro_rules! on_lasting_stores {
    ($($check:ident),* $(,)?) => { on_stores!([embedded, everysec, redis, redis_cluster], [$($check),*]); };
}

macro_rules! on_stores {
    ([$($store:ident),*], $checks:tt) => { $( on_store!($store, $checks); )* };
}

macro_rules! on_store {
    ($store:ident, [$($check:ident),*]) => {
        mod $store {
            use $crate::conformance::{Bench, on_runtime};
            $( #[test] fn $check() { on_runtime(super::$check(Bench::$store())); } )*
        }
    };
}

mod append;
mod bench;
mod calls;
mod event_ids;
mod hubs;
mod jobs;
mod lasting;
mod life;
mod list;
mod model;
mod publishing;
mod range;
mod reading;
mod shared;
mod tail;
mod trim;

use bench::{Bench, Store, on_runtime, rules};
