-- Lets a run expire. ARGV: also the time from now, in ms.
local book = open_book('status')
local gone = absence(book)
if gone then
  return { gone }
end
absorb(book)
book.expires, book.expiry_changed, book.by_hand = now + tonumber(ARGV[at]), true, true
local seen = describe(book)
seen[10] = ARGV[at]
close_book(book, redis.call, 'status', book.status)
return tonumber(ARGV[at]) > 0 and seen or { 'expired' }
