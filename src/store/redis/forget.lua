-- Takes a run off the list if nothing is kept of it any more. KEYS: stream, meta, runs. ARGV: run id.
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  return redis.call('ZREM', KEYS[3], ARGV[1])
end
return 0
