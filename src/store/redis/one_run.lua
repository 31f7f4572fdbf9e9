-- KEYS: stream, meta, runs (or any key where scripts do not list runs). ARGV: run id.
local stream, meta, runs, run, at = KEYS[1], KEYS[2], KEYS[3], ARGV[1], 2
