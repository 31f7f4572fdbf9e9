-- Appends publishes to one run, each whole or not at all.
-- KEYS: also the base of the event_id index. ARGV: also the writer's field, whether the events are plain (1 or
-- 0), number of publishes; of each publish its writer's number for it, whether it was answered and can be
-- refused no more (1 or 0), and the number of events; of each event, unless they are plain: whether its
-- publisher chose the event_id (1 or 0), event_id, digest, the status it gives or ''; of all events: number of
-- entry arguments, then these: the timestamp first, then names and values.
-- Answers the last id before, 0-0 for none; then of each publish {0, id, sequence, duplicate, ...}, {1, index},
-- {2}, or, of events that are all new, {3, the first one's sequence, their ids with spaces between}.

local writer, plain, publishes = ARGV[at], ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
at = at + 3

local book = open_book(writer)
-- The greatest number of this writer that was applied.
local applied = tonumber(book.extra) or 0
local before = applied
absorb(book)

-- The index is kept in two generations, each a hash that expires by itself.
local generation = math.floor(now / window)
local current = KEYS[4] .. ':' .. int(generation)
local previous = KEYS[4] .. ':' .. int(generation - 1)

local function find(key)
  for _, index in ipairs({ current, previous }) do
    local value = redis.call('HGET', index, key)
    if value then
      local ms, id, sequence, digest = string.match(value, '^(%d+) (%d+%-%d+) (%d+) (%x+)$')
      if ms and now - tonumber(ms) <= window then
        return { id, sequence, digest }
      end
    end
  end
end

local answer, indexed = { book.last_id or '0-0' }, false
for _ = 1, publishes do
  local number, answered, count = tonumber(ARGV[at]), ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
  local already = number <= applied
  applied = math.max(applied, number)
  at = at + 3
  -- First pass: where each event's arguments are, and whether an event_id is reused.
  local events, digests, reused = {}, {}, nil
  for i = 1, count do
    local given, key, digest, status = false, nil, nil, ''
    if not plain then
      given, key, digest, status = ARGV[at] == '1', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
      at = at + 4
    end
    local event = { key = given and key, digest = digest, status = status, first = at + 1,
      last = at + tonumber(ARGV[at]) }
    if given and not already then
      event.found = find(key)
      local earlier = digests[key] or (event.found and event.found[3])
      if earlier and earlier ~= digest and not reused and not answered then
        reused = i - 1
      end
      digests[key] = digest
    end
    events[i] = event
    at = event.last + 1
  end
  local outcome = { already and 2 or reused and 1 or 0 }
  if already then
    -- An earlier attempt has stored or refused it.
  elseif reused then
    outcome[2] = int(reused)
  else
    local stored = {}
    for _, event in ipairs(events) do
      local place = event.found or (event.key and stored[event.key])
      local duplicate = place and '1' or '0'
      if not place then
        -- Only what is stored brings an expired run back to life, without what had expired.
        if book.expires and book.expires <= now then
          redis.call('DEL', stream)
        end
        revive(book)
        local sequence = int(book.sequence + 1)
        local id = redis.call('XADD', stream, 'MAXLEN', '~', max_events, '*', 'timestamp', ARGV[event.first],
          'sequence', sequence, unpack(ARGV, event.first + 1, event.last))
        book.sequence, book.last_id = book.sequence + 1, id
        place = { id, sequence }
        if event.key then
          redis.call('HSET', current, event.key, table.concat({ int(now), id, sequence, event.digest }, ' '))
          stored[event.key], indexed = place, true
        end
        if event.status ~= '' then
          set_status(book, event.status, now)
        end
        book.created, book.updated = book.created or now, now
      end
      outcome[#outcome + 1] = place[1]
      outcome[#outcome + 1] = place[2]
      outcome[#outcome + 1] = duplicate
    end
  end
  answer[#answer + 1] = outcome
end

if indexed then
  redis.call('PEXPIRE', current, int(window * 2))
end
if book.last_id and applied > before then
  close_book(book, redis.call, writer, int(applied))
end
return answer
