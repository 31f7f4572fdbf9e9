//! The Lua scripts. They are constant text; everything a user sent goes in as arguments.

use redis::Script;

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
    pub(super) fn new() -> Self {
        let common = include_str!("common.lua");
        Self {
            append: LuaScript::new(&[common, include_str!("append.lua")]),
            run: LuaScript::new(&[common, include_str!("run.lua")]),
            expire: LuaScript::new(&[common, include_str!("expire.lua")]),
            delete: LuaScript::new(&[common, include_str!("delete.lua")]),
            heads: LuaScript::new(&[include_str!("heads.lua")]),
            forget: LuaScript::new(&[include_str!("forget.lua")]),
        }
    }

    pub(super) fn all(&self) -> [&LuaScript; 6] {
        [&self.append, &self.run, &self.expire, &self.delete, &self.heads, &self.forget]
    }
}
