-- Appends publishes to runs, each publish whole or not at all. One run's trouble is no other's.
-- KEYS: the list of runs; of each run its stream, meta, and, unless its events are plain, the base of its event_id
-- index.
-- ARGV: number of runs; of each run its id, the writer's field, whether the events are plain (1 or 0), and the
-- number of publishes; of each publish its writer's number for it, whether it was answered and can be refused no
-- more (1 or 0), and the number of events; of each event, unless they are plain, whether its publisher chose the
-- event_id (1 or 0), event_id, digest, the status it gives or ''; of all events the entry. An entry begins with its
-- shape: '=' if its source and type are those of the entry before, else these six values come first; then timestamp
-- and data; then the event_id if the shape is '=' or '+', else as many names and values as the shape says.
-- Answers a line a run: the last id before, 0-0 for none, and of each publish 'n' with the first one's sequence and
-- the ids, of events that are all new; 'm' with id, sequence and whether it was there before (1 or 0) of each event;
-- 'r' with the index of the event whose event_id is reused; or 'a' if an earlier attempt has applied it. Of a run
-- that cannot be served the error stands there, behind a '-'.

-- Where the next run's arguments begin, of a run whose first publish begins at `at`.
local function behind(at, plain, publishes)
  for _ = 1, publishes do
    local count = tonumber(ARGV[at + 2])
    at = at + 3
    for _ = 1, count do
      local _, next = measure(plain and at or at + 4)
      at = next
    end
  end
  return at
end

local function append(stream, meta, index, run, writer, plain, publishes, at)
  if plain then
    local line, next = append_plain(stream, meta, run, writer, publishes, at)
    if line then
      return line, next
    end
  end
  return append_full(stream, meta, index, run, writer, plain, publishes, at)
end

local answer, at, key = {}, 2, 2
for i = 1, tonumber(ARGV[1]) do
  local plain, publishes = ARGV[at + 2] == '1', tonumber(ARGV[at + 3])
  local index = not plain and KEYS[key + 2]
  local done, line, next = pcall(append, KEYS[key], KEYS[key + 1], index, ARGV[at], ARGV[at + 1], plain, publishes,
    at + 4)
  if not done then
    -- Of an error of the server its own words, in which some versions leave the marks of the protocol; of one of
    -- this script others.
    local text = tostring(type(line) == 'table' and line.err or line)
    text = string.gsub(string.gsub(text, '^%-', ''), '%c+', ' ')
    if not string.match(text, '^%u+ ') then
      text = 'ERR ' .. text
    end
    -- Any other refusal is the server's, which refuses the first write of all or none.
    if not string.match(text, '^WRONGTYPE ') and not string.match(text, '^ERR ') then
      return { err = text }
    end
    line, next = '-' .. text, behind(at + 4, plain, publishes)
  end
  answer[i], at, key = line, next, key + (plain and 2 or 3)
end
if #scores > 0 then
  -- What else may be kept under the list's name must not undo what is done by now.
  redis.pcall('ZADD', runs, 'GT', unpack(scores))
end
return concat(answer, '\n')
