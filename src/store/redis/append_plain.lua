-- Appends to a run to which nothing has happened but what this hub's kind did: the usual case, and so with no
-- more work than it takes. Where anything else is met, nothing is done here and append.lua goes on. Its first
-- lines say what KEYS, ARGV and the answer are.

if ARGV[3] == '1' then
  local meta, f = KEYS[2], redis.call('HMGET', KEYS[2], 'sequence', 'last_id', 'created_at', 'expires_at', ARGV[2])
  local last = f[2]
  if f[1] and last and f[3] and not f[4]
    and #redis.call('XREVRANGE', KEYS[1], '+', '(' .. last, 'COUNT', 1) == 0 then
    local sequence, applied = tonumber(f[1]), tonumber(f[5]) or 0
    local answer, at, id, number = { last }, 5, nil, nil
    for p = 1, tonumber(ARGV[4]) do
      local ids, outcome = {}, { 2 }
      if tonumber(ARGV[at]) > applied then
        number, outcome = ARGV[at], { 3, string.format('%d', sequence + 1) }
        applied = tonumber(number)
      end
      local count = tonumber(ARGV[at + 2])
      at = at + 3
      for i = 1, count do
        local first, last = at + 1, at + tonumber(ARGV[at])
        if outcome[1] == 3 then
          sequence = sequence + 1
          id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', max_events, '*', 'timestamp', ARGV[first],
            'sequence', string.format('%d', sequence), unpack(ARGV, first + 1, last))
          ids[i] = id
        end
        at = last + 1
      end
      -- One text for all: every item of an answer is work for both sides.
      outcome[3] = outcome[2] and table.concat(ids, ' ')
      answer[p + 1] = outcome
    end
    if id then
      local ms = string.match(id, '^%d+')
      redis.call('HSET', meta, 'sequence', string.format('%d', sequence), 'last_id', id, 'updated_at', ms,
        ARGV[2], number)
      redis.pcall('ZADD', KEYS[3], 'GT', ms, ARGV[1])
    end
    return answer
  end
end
