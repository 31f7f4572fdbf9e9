-- The beginning of append.lua, which says what KEYS and ARGV are: how an entry is written, and the append to a run to
-- which nothing has happened but what this hub's kind did. That is the usual case, and so has no more work than it
-- takes. Before this stands the rule max_events.

local KEYS, ARGV, call, format, concat = KEYS, ARGV, redis.call, string.format, table.concat
local runs = KEYS[1]

-- Where in ARGV the source and the type are that the entry at hand shares with those before it.
local head

-- Of the entry at `at`: where its timestamp is, and where the next argument behind it. Sets the head.
local function measure(at)
  local shape = ARGV[at]
  if shape == '=' then
    return at + 1, at + 4
  end
  head = at + 1
  return at + 7, at + (shape == '+' and 10 or 9 + tonumber(shape))
end

-- The names and values that stand behind an entry's data.
local function others(own, next)
  if next == own + 3 then
    return 'event_id', ARGV[own + 2]
  end
  return unpack(ARGV, own + 2, next - 1)
end

-- Writes an entry that was measured. Answers its id.
local function add(stream, sequence, head, own, next)
  return call('XADD', stream, 'MAXLEN', '~', max_events, '*', 'timestamp', ARGV[own], 'sequence', sequence,
    'source_agent_id', ARGV[head], 'source_agent_type', ARGV[head + 1], 'source_agent_name', ARGV[head + 2],
    'source_team_name', ARGV[head + 3], 'event_category', ARGV[head + 4], 'event_action', ARGV[head + 5],
    'data', ARGV[own + 1], others(own, next))
end

-- Whether this is a stream's id and nothing else: it becomes a word of the answer.
local function is_id(text)
  return text and string.match(text, '^%d+%-%d+$')
end

-- The runs that got something, each behind the time of its last event.
local scores = {}

-- Appends plain publishes, whose arguments begin at `at`. Nil, and nothing done, where anything else is met than
-- the usual case.
local function append_plain(stream, meta, run, writer, publishes, at)
  local f = call('HMGET', meta, 'sequence', 'last_id', 'created_at', 'expires_at', writer)
  local last = f[2]
  if not (f[1] and is_id(last) and f[3]) or f[4]
    or #call('XREVRANGE', stream, '+', '(' .. last, 'COUNT', 1) > 0 then
    return nil
  end
  local sequence, applied = tonumber(f[1]), tonumber(f[5]) or 0
  local line, length, id, number = { last }, 1, nil, nil
  for _ = 1, publishes do
    local is_new, count = tonumber(ARGV[at]) > applied, tonumber(ARGV[at + 2])
    length = length + 1
    if is_new then
      number = ARGV[at]
      applied = tonumber(number)
      line[length], line[length + 1] = 'n', format('%d', sequence + 1)
      length = length + 1
    else
      line[length] = 'a'
    end
    at = at + 3
    for _ = 1, count do
      local own, next = measure(at)
      if is_new then
        sequence = sequence + 1
        id = add(stream, format('%d', sequence), head, own, next)
        length = length + 1
        line[length] = id
      end
      at = next
    end
  end
  if id then
    local ms = string.match(id, '^%d+')
    call('HSET', meta, 'sequence', format('%d', sequence), 'last_id', id, 'updated_at', ms, writer, number)
    scores[#scores + 1], scores[#scores + 2] = ms, run
  end
  return concat(line, ' '), at
end
