-- Answers the last id ever given of each stream in KEYS; '' where there is none.
local heads = {}
for i, key in ipairs(KEYS) do
  heads[i] = ''
  local info = redis.pcall('XINFO', 'STREAM', key)
  for j = 1, info.err and 0 or #info, 2 do
    if info[j] == 'last-generated-id' then
      heads[i] = info[j + 1]
    end
  end
end
return heads
