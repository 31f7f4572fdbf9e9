-- Forgets a run. KEYS: also the base of the event_id index. ARGV: also the event_id window in ms.
local generation = math.floor(now / tonumber(ARGV[at]))
local gone = redis.call('DEL', stream, meta)
redis.call('DEL', KEYS[4] .. ':' .. int(generation), KEYS[4] .. ':' .. int(generation - 1))
redis.call('ZREM', runs, run)
return gone
