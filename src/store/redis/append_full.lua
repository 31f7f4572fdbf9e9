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
-- The greatest number of this writer that was applied, and those below it that were not, because they were refused:
-- should nobody have heard of that, they come again. A writer never goes back, so those below the first are done with.
local applied, refused, first_number = 0, {}, tonumber((publish_at(at, plain)))
for number in string.gmatch(book.extra or '', '%d+') do
  if applied == 0 then
    applied = tonumber(number)
  elseif tonumber(number) >= first_number then
    refused[tonumber(number)] = true
  end
end
local before, done = applied, false
absorb(book)

-- The index is kept in generations, each a hash that expires by itself.
local function index_of(generation)
  return index .. ':' .. int(generation)
end
local generation = math.floor(now / window)

-- The event that this id stands for, if it was stored within the window before this was published. A publish that was
-- answered may have waited for long, and so may what it repeats: that was published within the window before or after
-- it. This may run long after any publish: the server may have been stopped with the call in its hands. Also whether
-- the id stands for one that was published later.
local function find(key, published, answered)
  local oldest, newest = math.min(now, published) - window, published + window
  local later = false
  for past = generation, math.max(generation - 2, math.floor(oldest / window)), -1 do
    local value = redis.call('HGET', index_of(past), key)
    if value then
      local ms, id, sequence, digest = string.match(value, '^(%d+) (%d+%-%d+) (%d+) (%x+)$')
      local when = ms and (answered and tonumber(ms) or ms_of(id))
      if when and when >= oldest and (when <= newest or not answered) then
        return { id, sequence, digest }
      end
      later = later or answered and when and when > newest
    end
  end
  return nil, later
end

local line, indexed = { book.last_id or '0-0' }, false
local function tell(word)
  line[#line + 1] = word
end

for _ = 1, publishes do
  local number, answered, count, first, published = publish_at(at, plain)
  number = tonumber(number)
  local already = number <= before and not refused[number]
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
    if given and not already then
      event.found, event.later = find(key, published, answered)
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
  elseif reused then
    tell('r')
    tell(int(reused))
    refused[number] = true
  else
    tell('m')
    applied, refused[number], done = math.max(applied, number), nil, true
    local stored = {}
    for _, event in ipairs(events) do
      local place = event.found or (event.key and stored[event.key])
      local was = not place and '0' or place[3] == event.digest and '1' or '2'
      if not place then
        -- Only what is stored brings an expired run back to life, without what had expired.
        if book.expires and book.expires <= now then
          redis.call('DEL', stream)
        end
        revive(book)
        local sequence = int(book.sequence + 1)
        local id = add(stream, sequence, event.head, event.timestamp, event.data, event.next)
        book.sequence, book.last_id = book.sequence + 1, id
        place = { id, sequence, event.digest }
        if event.key then
          stored[event.key] = place
          -- Whoever repeats one of two repeats the later.
          if not event.later then
            local value = concat({ int(math.min(now, published)), id, sequence, event.digest }, ' ')
            redis.call('HSET', index_of(generation), event.key, value)
            indexed = true
          end
        end
        -- The event's own time, which the list of runs is told as well; this script's clock may be a millisecond behind.
        book.updated = ms_of(id)
        book.created = book.created or book.updated
        if event.status ~= '' then
          set_status(book, event.status, book.updated)
        end
      end
      tell(place[1])
      tell(place[2])
      tell(was)
    end
  end
end

if indexed then
  redis.call('PEXPIRE', index_of(generation), int(window * 2))
end
if book.last_id and done then
  local numbers = { int(applied) }
  for number in pairs(refused) do
    if number < applied then
      numbers[#numbers + 1] = int(number)
    end
  end
  close_book(book, redis.call, writer, concat(numbers, ' '))
end
return concat(line, ' '), at
