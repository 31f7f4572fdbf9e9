-- Forgets a run. KEYS: also the base of the event_id index, and the job streams of this name: one that stayed
-- would be served as the run that was to be gone.
local generation = math.floor(now / window)
local gone = redis.call('DEL', stream, meta, unpack(KEYS, 5))
redis.call('DEL', KEYS[4] .. ':' .. int(generation), KEYS[4] .. ':' .. int(generation - 1))
redis.call('ZREM', runs, run)
return gone
