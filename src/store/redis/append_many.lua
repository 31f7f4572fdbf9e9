-- The beginning of a function of append.lua, which says what the arguments are: how publishes and entries are read from
-- them, how an entry is written, and the append of any number of plain events to a run to which nothing has happened
-- but what hubs did. Before this stand the rule max_events and append_undisturbed.lua.

local KEYS, ARGV, call, format, concat = KEYS, ARGV, redis.call, string.format, table.concat
local runs = KEYS[1]

-- Of the publish at `at`, or of the only one of a run whose entry is there: its number, whether it was answered, how
-- many events, where the first is, and, unless they are plain, when it was published.
local function publish_at(at, plain)
  if ARGV[at] == '+' then
    return ARGV[at - 1], false, 1, at
  end
  local number, answered, count = ARGV[at], ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
  if plain then
    return number, answered, count, at + 3
  end
  return number, answered, count, at + 4, tonumber(ARGV[at + 3])
end

-- Where in ARGV the source and the type are that the entry at hand shares with those before it.
local head

-- Of the entry at `at`: where its timestamp is, where its data, and where the next argument behind it. Sets the head.
local function measure(at)
  local shape = ARGV[at]
  if shape == '=' then
    return at + 1, at + 2, at + 4
  end
  head = at + 2
  return at + 1, at + 8, at + (shape == '+' and 10 or 9 + tonumber(shape))
end

-- The names and values that stand behind an entry's data.
local function others(data, next)
  if next == data + 2 then
    return 'event_id', ARGV[data + 1]
  end
  return unpack(ARGV, data + 1, next - 1)
end

-- Writes an entry that was measured. Answers its id.
local function add(stream, sequence, head, timestamp, data, next)
  return call('XADD', stream, 'MAXLEN', '~', max_events, '*', 'timestamp', ARGV[timestamp], 'sequence', sequence,
    'source_agent_id', ARGV[head], 'source_agent_type', ARGV[head + 1], 'source_agent_name', ARGV[head + 2],
    'source_team_name', ARGV[head + 3], 'event_category', ARGV[head + 4], 'event_action', ARGV[head + 5],
    'data', ARGV[data], others(data, next))
end

-- Appends plain publishes, of which the first is at `at`. Answers a line, where the next run's arguments begin, and the
-- time of the last event; nil, and nothing done, where anything else is met than the usual case.
local function append_plain(stream, meta, writer, publishes, at)
  local sequence, last, applied = undisturbed(stream, meta, writer)
  if not sequence then
    return nil
  end
  local line, length, id, last_number = { last }, 1, nil, nil
  for _ = 1, publishes do
    local number, _, count, first = publish_at(at, true)
    local is_new = tonumber(number) > applied
    at, length = first, length + 1
    if is_new then
      last_number, applied = number, tonumber(number)
      line[length], line[length + 1] = 'n', format('%d', sequence + 1)
      length = length + 1
    else
      line[length] = 'a'
    end
    for _ = 1, count do
      local timestamp, data, next = measure(at)
      if is_new then
        sequence = sequence + 1
        id = add(stream, format('%d', sequence), head, timestamp, data, next)
        length = length + 1
        line[length] = id
      end
      at = next
    end
  end
  local ms = id and string.match(id, '^%d+')
  if id then
    call('HSET', meta, 'sequence', format('%d', sequence), 'last_id', id, 'updated_at', ms, writer, last_number)
  end
  return concat(line, ' '), at, ms
end
