-- Appends publishes to runs, each publish whole or not at all. One run's trouble is no other's.
-- KEYS: the list of runs, or any key where this does not keep it; of each run its stream, meta, and, unless its events
-- are plain, the base of its event_id index.
-- ARGV: the first run's writer's field; of each run its id, and, if it gets one event from that writer that is plain
-- and as most are, the writer's number for the publish and the entry, which begins with '+'. Of any other its writer's
-- field, the number of publishes, below 0 unless the events are plain, and the publishes; of each the writer's number
-- for it, whether it was answered and can be refused no more (1 or 0), the number of events, and, unless they are
-- plain, when it was published, in ms; of each event, unless they are plain, whether its publisher chose the event_id
-- (1 or 0), event_id, digest, the status it gives or ''; of all events the entry. An entry begins with its shape, and
-- goes on with its timestamp, source and type, six values that are left out where the shape is '=' because they are
-- those of the entry before, and data; then comes the event_id if the shape is '=' or '+', else as many names and
-- values as the shape says.
-- Answers a line a run: the last id before, 0-0 for none, and of each publish 'n' with the first one's sequence and
-- the ids, of events that are all new; 'm' with id, sequence and whether it was there before (0, 1, or 2 with other
-- content) of each event; 'r' with the index of the event whose event_id is reused; or 'a' if an earlier attempt has
-- applied it. Of a run that cannot be served the error stands there, behind a '-'.
--
-- Here stands what happens again and again: one event for a run to which nothing has happened but what hubs did. No
-- function and no table is made for it that need not be: Redis mostly comes to this from something else, when each
-- costs several times what it costs in a row. All else is the work of what make_append makes. It stands before this,
-- behind append_undisturbed.lua.

local ARGV, try = ARGV, redis.pcall
local first_writer, at, key = ARGV[1], 2, 2
local several, lines, scores, append_any = KEYS[4], nil, nil, nil
if several then
  lines, scores = {}, {}
end
local run, line, ms

while KEYS[key] do
  run, line = ARGV[at], nil
  if ARGV[at + 2] == '+' then
    local stream, meta, number = KEYS[key], KEYS[key + 1], ARGV[at + 1]
    local sequence, last, applied = undisturbed(stream, meta, first_writer)
    if sequence and tonumber(number) > applied then
      sequence = string.format('%d', sequence + 1)
      local id = try('XADD', stream, 'MAXLEN', '~', max_events, '*', 'timestamp', ARGV[at + 3], 'sequence', sequence,
        'source_agent_id', ARGV[at + 4], 'source_agent_type', ARGV[at + 5], 'source_agent_name', ARGV[at + 6],
        'source_team_name', ARGV[at + 7], 'event_category', ARGV[at + 8], 'event_action', ARGV[at + 9],
        'data', ARGV[at + 10], 'event_id', ARGV[at + 11])
      -- What is refused is refused again below, where there are words for it.
      if not id.err then
        ms = string.match(id, '^%d+')
        redis.call('HSET', meta, 'sequence', sequence, 'last_id', id, 'updated_at', ms, first_writer, number)
        line = last .. ' n ' .. sequence .. ' ' .. id
        at, key = at + 12, key + 2
      end
    end
  end
  if not line then
    append_any = append_any or make_append()
    line, at, key, ms = append_any(at, key)
    if not at then
      return line
    end
  end
  if several then
    lines[#lines + 1] = line
    if ms then
      scores[#scores + 1], scores[#scores + 2] = ms, run
    end
  end
end
-- What else may be kept under the list's name must not undo what is done by now.
if not several then
  if ms and lists_runs then
    try('ZADD', KEYS[1], 'GT', ms, run)
  end
  return line
end
if scores[1] and lists_runs then
  try('ZADD', KEYS[1], 'GT', unpack(scores))
end
return table.concat(lines, '\n')
