-- Forgets a run. KEYS: also the base of the event_id index, and the job streams of this name: one that stayed would be
-- served as the run that was to be gone. ARGV: also the key that says when the run was deleted, and for how long it
-- does, in ms. It is no key of the call, since a hub that may not write to it may delete all the same.
local generation, deleted, said_for = math.floor(now / window), ARGV[at], ARGV[at + 1]
local gone = redis.call('DEL', stream, meta, unpack(KEYS, 5))
for past = generation, generation - 2, -1 do
  redis.call('DEL', KEYS[4] .. ':' .. int(past))
end
if lists_runs then redis.call('ZREM', runs, run) end
if gone > 0 then
  -- The run is gone, whether this may be said or not.
  redis.pcall('SET', deleted, int(now), 'PX', said_for)
end
return gone
