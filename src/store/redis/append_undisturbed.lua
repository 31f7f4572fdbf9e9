-- The first part of append.lua: how a run stands to which nothing has happened but what hubs did.

-- A stream's id and nothing else. What becomes a word of the answer must be one.
local ID = '^%d+%-%d+$'

-- The run's sequence, its last id, and the greatest number of this writer that was applied; nil where anything else is
-- met: numbers that were refused before it stand behind that one.
local function undisturbed(stream, meta, writer)
  local f = redis.pcall('HMGET', meta, 'sequence', 'last_id', 'created_at', 'expires_at', writer)
  local sequence, last = tonumber(f[1]), f[2]
  if sequence and last and f[3] and not f[4] and string.match(last, ID) then
    local behind = redis.pcall('XREVRANGE', stream, '+', '(' .. last, 'COUNT', 1)
    local applied = not f[5] and 0 or tonumber(f[5])
    if applied and not behind.err and not behind[1] then
      return sequence, last, applied
    end
  end
end

