-- Forgets a run. KEYS: also the base of the event_id index, the list of deletions, and the job streams of this name:
-- one that stayed would be served as the run that was to be gone. ARGV: also for how long a deletion is listed, in ms.
local generation, deletions, listed_for = math.floor(now / window), KEYS[5], tonumber(ARGV[at])
local gone = redis.call('DEL', stream, meta, unpack(KEYS, 6))
redis.call('DEL', KEYS[4] .. ':' .. int(generation), KEYS[4] .. ':' .. int(generation - 1))
redis.call('ZREM', runs, run)
if gone > 0 then
  -- The run is gone, whatever may be kept under this name.
  redis.pcall('ZADD', deletions, int(now), run)
  redis.pcall('ZREMRANGEBYSCORE', deletions, '-inf', int(now - listed_for))
  redis.pcall('PEXPIRE', deletions, int(listed_for))
end
return gone
