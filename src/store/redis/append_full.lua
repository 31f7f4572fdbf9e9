-- The append to a run as it may be met: with events whose publisher chose their event_id, that were stored before,
-- that change how the run stands; to a run that is new, or was written to by others, or ends. The body of a function
-- of append.lua, behind common.lua. Answers a line and where the next run's arguments begin.

local book = open_book(writer)
if book.last_id and not string.match(book.last_id, ID) then
  error('the last_id in ' .. meta .. ' is no id')
end
if not book.numbered then
  -- To begin anew would give numbers twice.
  error('the sequence in ' .. meta .. ' is no number')
end
-- The greatest number of this writer that was applied.
local applied = tonumber(book.extra) or 0
local before = applied
-- Whether a publish was refused. Its number is not applied then, so none behind it may be.
local held = false
absorb(book)

-- The index is kept in two generations, each a hash that expires by itself.
local generation = math.floor(now / window)
local current, previous
if not plain then
  current, previous = index .. ':' .. int(generation), index .. ':' .. int(generation - 1)
end

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

local line, indexed = { book.last_id or '0-0' }, false
local function tell(word)
  line[#line + 1] = word
end

for _ = 1, publishes do
  local number, answered, count, first = publish_at(at)
  local already = tonumber(number) <= applied
  at = first
  -- First pass: where each event's arguments are, and whether an event_id is reused.
  local events, digests, reused = {}, {}, nil
  for i = 1, count do
    local given, key, digest, status = false, nil, nil, ''
    if not plain then
      given, key, digest, status = ARGV[at] == '1', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
      at = at + 4
    end
    local timestamp, data, next = measure(at)
    local event = { key = given and key, digest = digest, status = status, head = head, timestamp = timestamp,
      data = data, next = next }
    if given and not already and not held then
      event.found = find(key)
      local earlier = digests[key] or (event.found and event.found[3])
      if earlier and earlier ~= digest and not reused and not answered then
        reused = i - 1
      end
      digests[key] = digest
    end
    events[i] = event
    at = next
  end
  if already then
    -- An earlier attempt has stored it.
    tell('a')
  elseif held then
    tell('h')
  elseif reused then
    tell('r')
    tell(int(reused))
    held = true
  else
    tell('m')
    applied = tonumber(number)
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
        local id = add(stream, sequence, event.head, event.timestamp, event.data, event.next)
        book.sequence, book.last_id = book.sequence + 1, id
        place = { id, sequence }
        if event.key then
          redis.call('HSET', current, event.key, concat({ int(now), id, sequence, event.digest }, ' '))
          stored[event.key], indexed = place, true
        end
        if event.status ~= '' then
          set_status(book, event.status, now)
        end
        book.created, book.updated = book.created or now, now
      end
      tell(place[1])
      tell(place[2])
      tell(duplicate)
    end
  end
end

if indexed then
  redis.call('PEXPIRE', current, int(window * 2))
end
if book.last_id and applied > before then
  close_book(book, redis.call, writer, int(applied))
end
return concat(line, ' '), at
