//! The Lua scripts. They are constant text but for the rules that the configuration gives; everything a user
//! sent goes in as arguments.

use crate::event::job_type;
use crate::store::{StoreRules, as_ms};
use redis::Script;
use std::fmt::Write;

/// A script and its hash.
pub(super) struct LuaScript {
    pub(super) code: String,
    pub(super) hash: String,
}

impl LuaScript {
    fn new(parts: &[&str]) -> Self {
        let code = parts.concat();
        let hash = Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

/// All scripts; loaded into every server a link connects to.
pub(super) struct Scripts {
    pub(super) append: LuaScript,
    pub(super) run: LuaScript,
    pub(super) expire: LuaScript,
    pub(super) delete: LuaScript,
    pub(super) heads: LuaScript,
    pub(super) forget: LuaScript,
}

impl Scripts {
    /// With `lists_runs` they keep the list of runs, too, in the same step as what they do to a run.
    pub(super) fn new(rules: &StoreRules, lists_runs: bool) -> Self {
        let (numbers, statuses) = (numbers(rules, lists_runs), statuses(rules));
        let common = include_str!("common.lua");
        let one_run = include_str!("one_run.lua");
        let script = |code| LuaScript::new(&[&numbers, one_run, &statuses, common, code]);
        let append = [
            &numbers,
            include_str!("append_undisturbed.lua"),
            "local function make_append()\n",
            include_str!("append_many.lua"),
            "local function append_full(stream, meta, index, run, writer, plain, publishes, at)\n",
            &statuses,
            common,
            include_str!("append_full.lua"),
            "end\n",
            include_str!("append_any.lua"),
            "end\n",
            include_str!("append.lua"),
        ];
        Self {
            append: LuaScript::new(&append),
            run: script(include_str!("run.lua")),
            expire: script(include_str!("expire.lua")),
            delete: script(include_str!("delete.lua")),
            heads: LuaScript::new(&[include_str!("heads.lua")]),
            forget: LuaScript::new(&[include_str!("forget.lua")]),
        }
    }

    pub(super) fn all(&self) -> [&LuaScript; 6] {
        [&self.append, &self.run, &self.expire, &self.delete, &self.heads, &self.forget]
    }
}

/// The rules that are numbers; times in ms. And whether runs are listed.
fn numbers(rules: &StoreRules, lists_runs: bool) -> String {
    format!(
        "local lists_runs, max_events, window, after_end, tombstone = {lists_runs}, '{}', {}, {}, {}\n",
        rules.max_events,
        as_ms(rules.dedup_window).max(1000),
        as_ms(rules.after_end),
        as_ms(rules.tombstone)
    )
}

/// The status that each type gives, by its dotted and its flat names. Those are checked names, in which
/// nothing has a meaning to Lua.
fn statuses(rules: &StoreRules) -> String {
    let mut table = "local status_of = { ['lifecycle.started'] = 'running'".to_owned();
    for (dotted, status) in rules.lifecycle.terminal() {
        for name in std::iter::once(dotted).chain(job_type::flat_names(dotted)) {
            // Writing to a String cannot fail.
            let _ = write!(table, ", ['{name}'] = '{}'", status.as_str());
        }
    }
    table + " }\n"
}
