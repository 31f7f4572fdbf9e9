-- Forgets a run. KEYS: also the base of the event_id index, and the job streams of this name: one that stayed would be
-- served as the run that was to be gone. ARGV: also the list of deletions, and for how long one is listed, in ms. That
-- list is no key of the call, since a hub that may not write to it may delete all the same.
local generation, deletions, listed_for = math.floor(now / window), ARGV[at], tonumber(ARGV[at + 1])
local gone = redis.call('DEL', stream, meta, unpack(KEYS, 5))
redis.call('DEL', KEYS[4] .. ':' .. int(generation), KEYS[4] .. ':' .. int(generation - 1))
redis.call('ZREM', runs, run)
if gone > 0 then
  -- The run is gone, whatever may be kept under that name.
  redis.pcall('ZADD', deletions, int(now), run)
  redis.pcall('ZREMRANGEBYSCORE', deletions, '-inf', int(now - listed_for))
  redis.pcall('PEXPIRE', deletions, int(listed_for))
end
return gone
