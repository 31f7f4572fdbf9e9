-- What every script on a run begins with: the clock, the run's book, and what foreign programs did to the run since
-- a hub last looked. Numbers are doubles here; int() writes them without an exponent.
-- Before this stand `stream`, `meta`, `runs`, `run` and `at`, the next argument, and the rules, see scripts.rs:
-- lists_runs, max_events, window, after_end, tombstone (in ms), and status_of, the status that an event of a dotted or flat
-- name gives.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- How much is read at a time of what foreign programs wrote, and how much in all: nobody else is served meanwhile. How
-- large an entry is shows only when it was read.
local entries_at_a_time, bytes_at_a_time, enough_bytes = 10, 1048576, 8388608

-- Whether it is a stream of jobs, which only other programs write to.
local of_jobs = string.sub(stream, 1, 3) == 'job'

local function int(number)
  return string.format('%.0f', number)
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local function open_book(extra)
  local f = redis.call('HMGET', meta, 'sequence', 'status', 'last_id', 'created_at', 'updated_at',
    'ended_at', 'expires_at', extra)
  return {
    sequence = tonumber(f[1]) or 0, numbered = not f[1] or tonumber(f[1]) ~= nil,
    status = f[2] or 'running', last_id = f[3],
    created = tonumber(f[4]), updated = tonumber(f[5]), ended = tonumber(f[6]),
    expires = tonumber(f[7]), had_expiry = f[7], extra = f[8],
  }
end

local function set_status(book, status, at_ms)
  book.status = status
  if status == 'running' then
    book.ended, book.expires = nil, nil
  else
    book.ended, book.expires = at_ms, now + after_end
  end
  book.expiry_changed = true
end

-- A run that has expired and gets an event lives again: one that had ended for another while.
local function revive(book)
  if book.expires and book.expires <= now then
    book.expires = book.status ~= 'running' and now + after_end or nil
    book.expiry_changed = true
  end
end

-- The status that an event of this name gives; the name may be dotted, flat, or either in camel case.
local function status_of_name(name)
  return status_of[name] or status_of[string.lower((string.gsub(name, '([%l%d])(%u)', '%1_%2')))]
end

-- The status that a job's event gives which names its type in its data alone, see job_type.rs.
local function status_of_data(data)
  local may_give = false
  -- Only data in which such a name stands somewhere is worth its parsing.
  for name in string.gmatch(data, '[tT]ype"%s*:%s*"([^"]+)"') do
    may_give = may_give or status_of_name(name) ~= nil
  end
  if not may_give then
    return nil
  end
  local parsed, job = pcall(cjson.decode, data)
  if not parsed or type(job) ~= 'table' then
    return nil
  end
  for _, key in ipairs({ 'eventType', 'event_type', 'type' }) do
    if type(job[key]) == 'string' and job[key] ~= '' then
      return status_of_name(job[key])
    end
  end
end

-- Counts in what was written behind the book's last id: the newest sequence and the newest change of status among the
-- newest thousand entries, or as many as are enough bytes. They are read a few at a time, and fewer if those before
-- were large.
local function absorb(book)
  local from, to = book.last_id and '(' .. book.last_id or '-', '+'
  local newest, sequence, status, status_ms
  local seen, bytes, largest, count = 0, 0, 1, 1
  repeat
    local entries = redis.call('XREVRANGE', stream, to, from, 'COUNT', count)
    for _, entry in ipairs(entries) do
      newest = newest or entry[1]
      local category, action, flat, data
      local before = bytes
      for i = 1, #entry[2], 2 do
        local name, value = entry[2][i], entry[2][i + 1]
        bytes = bytes + #name + #value
        if name == 'sequence' and not sequence and string.match(value, '^%d+$') then
          local number = tonumber(value)
          sequence = number <= 9007199254740992 and number or nil
        elseif name == 'event_category' then
          category = category or value
        elseif name == 'event_action' then
          action = action or value
        elseif name == 'event_type' or name == 'eventType' then
          flat = flat or value
        elseif name == 'data' then
          data = data or value
        end
      end
      if not status then
        if category or action then
          status = category and action and status_of[category .. '.' .. action]
        elseif flat and flat ~= '' then
          status = status_of_name(flat)
        elseif of_jobs and data then
          status = status_of_data(data)
        end
        status_ms = ms_of(entry[1])
      end
      to = '(' .. entry[1]
      largest = math.max(largest, bytes - before)
    end
    seen = seen + #entries
    local all = #entries < count
    count = math.max(1, math.min(2 * count, entries_at_a_time, 1000 - seen, math.floor(bytes_at_a_time / largest)))
  until all or sequence and status or seen >= 1000 or bytes >= enough_bytes
  if not newest then
    return
  end
  if not of_jobs then
    revive(book)
  end
  if status then
    set_status(book, status, status_ms)
  end
  if of_jobs then
    -- How long a job's stream is kept is its writer's to say, who may not have said so.
    local left = redis.call('PTTL', stream)
    book.expires, book.expiry_changed = left >= 0 and now + left or nil, true
  end
  book.sequence = math.max(book.sequence, sequence or 0)
  book.last_id = newest
  book.updated = math.max(book.updated or 0, ms_of(newest))
  book.created = book.created or ms_of(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1])
  book.changed = true
end

-- Writes the book. Ends with what an out-of-memory or read-only server refuses, so that a refusal leaves
-- nothing half done; `call` is redis.pcall where the book may stay unwritten.
local function close_book(book, call, field, value)
  if book.ended and not book.expires and not of_jobs then
    -- The run goes on from a job that had no expiry.
    book.expires, book.expiry_changed = now + after_end, true
  end
  call('HSET', meta, 'sequence', int(book.sequence), 'status', book.status, 'last_id', book.last_id or '0-0',
    'created_at', int(book.created or now), 'updated_at', int(book.updated or now), field, value)
  if book.expiry_changed then
    if book.ended then call('HSET', meta, 'ended_at', int(book.ended)) else call('HDEL', meta, 'ended_at') end
    if book.expires then
      call('HSET', meta, 'expires_at', int(book.expires))
      call('PEXPIREAT', meta, int(book.expires + tombstone))
    elseif book.ended then
      -- A job's, which is found out again if its stream is there for longer. That there is something here keeps others
      -- from taking it for a run to which nothing has happened.
      call('HSET', meta, 'expires_at', 'never')
      call('PEXPIREAT', meta, int(now + after_end + tombstone))
    else
      call('HDEL', meta, 'expires_at')
      call('PERSIST', meta)
      -- What the hub had not set is its writer's.
      if book.had_expiry and not of_jobs then call('PERSIST', stream) end
    end
  end
  if book.expires and (not of_jobs or book.by_hand) then
    call('PEXPIREAT', stream, int(book.expires))
  end
  -- What else may be kept under the list's name must not undo what is done by now.
  if lists_runs then redis.pcall('ZADD', runs, 'GT', int(book.updated or now), run) end
end

local function reply_number(number)
  return number and int(number) or ''
end

-- The run as readers see it.
local function describe(book)
  local info = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'STREAM', stream)
  local length, first, last = '0', '', book.last_id or '0-0'
  for i = 1, info and #info or 0, 2 do
    if info[i] == 'length' then length = int(info[i + 1]) end
    if info[i] == 'last-generated-id' then last = info[i + 1] end
    if info[i] == 'first-entry' and info[i + 1] then first = info[i + 1][1] end
  end
  local left = redis.call('PTTL', stream)
  if left < 0 then
    left = book.expires and book.expires - now
  end
  return { 'known', book.status, length, first, last, int(book.sequence), int(book.created or now),
    int(book.updated or now), reply_number(book.ended), reply_number(left) }
end

-- 'unknown' or 'expired' for a run that has no events and no life; nil for one that is.
local function absence(book)
  if redis.call('EXISTS', stream) == 1 then
    return nil
  end
  if book.expires and book.expires <= now then
    return book.expires + tombstone <= now and 'unknown' or 'expired'
  end
  return not book.created and 'unknown' or nil
end
