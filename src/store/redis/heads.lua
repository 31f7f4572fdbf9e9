-- Answers of each stream in KEYS how far it goes, to be compared with the position in ARGV: the id of its last
-- entry at or behind that, else the last id that it ever gave; '' where there is none.
local heads = {}
for i, key in ipairs(KEYS) do
  heads[i] = ''
  -- The usual case, and the cheap one: the last entry is still there.
  local found = redis.pcall('XREVRANGE', key, '+', ARGV[i], 'COUNT', 1)
  if not found.err and found[1] then
    heads[i] = found[1][1]
  else
    local info = redis.pcall('XINFO', 'STREAM', key)
    for j = 1, info.err and 0 or #info, 2 do
      if info[j] == 'last-generated-id' then
        heads[i] = info[j + 1]
      end
    end
  end
end
return heads
