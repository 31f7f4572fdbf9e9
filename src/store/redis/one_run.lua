-- KEYS: stream, meta, runs. ARGV: run id.
local stream, meta, runs, run, at = KEYS[1], KEYS[2], KEYS[3], ARGV[1], 2
