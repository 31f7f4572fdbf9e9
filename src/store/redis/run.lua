-- Answers how a run stands, after counting in what foreign programs wrote. A server that takes no writes
-- still answers.
local book = open_book('status')
local gone = absence(book)
if gone then
  return { gone }
end
absorb(book)
if book.changed then
  close_book(book, redis.pcall, 'status', book.status)
end
return describe(book)
