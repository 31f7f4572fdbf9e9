-- The end of the function of append.lua that append_many.lua begins: the append to one run, whatever is met.

-- Where the next run's arguments begin, of a run whose first publish is at `at`, see publish_at.
local function behind(at, plain, publishes)
  for _ = 1, publishes do
    local _, _, count, first = publish_at(at, plain)
    at = first
    for _ = 1, count do
      local _, _, next = measure(plain and at or at + 4)
      at = next
    end
  end
  return at
end

local function append(stream, meta, index, run, writer, plain, publishes, at)
  -- Of one usual event this has been tried.
  if plain and ARGV[at] ~= '+' then
    local line, next, ms = append_plain(stream, meta, writer, publishes, at)
    if line then
      return line, next, ms
    end
  end
  return append_full(stream, meta, index, run, writer, plain, publishes, at)
end

-- Appends to the run whose arguments begin at `at` and whose keys begin at `key`. Answers its line, where those of the
-- next run begin, and the time of the last event if the list of runs does not know it yet; or an error alone, of which
-- the server says that it concerns everything.
return function(at, key)
  local stream, meta, run, writer, publishes = KEYS[key], KEYS[key + 1], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local plain, index = true, nil
  key = key + 2
  if not publishes then
    at, writer, publishes = at + 2, ARGV[1], 1
  else
    at = at + 3
    if publishes < 0 then
      plain, publishes, index, key = false, -publishes, KEYS[key], key + 1
    end
  end
  local done, line, next, ms = pcall(append, stream, meta, index, run, writer, plain, publishes, at)
  if done then
    return line, next, key, ms
  end
  -- Of an error of the server its own words, in which some versions leave the marks of the protocol; of one of this
  -- script others.
  local text = tostring(type(line) == 'table' and line.err or line)
  text = string.gsub(string.gsub(text, '^%-', ''), '%c+', ' ')
  if not string.match(text, '^%u+ ') then
    text = 'ERR ' .. text
  end
  -- Any other refusal is the server's, which refuses the first write of all or none.
  if not string.match(text, '^WRONGTYPE ') and not string.match(text, '^ERR ') then
    return { err = text }
  end
  return '-' .. text, behind(at, plain, publishes), key
end
