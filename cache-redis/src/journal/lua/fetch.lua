-- KEYS: log, last, state, owner, dead   ARGV: token, consumer, count, '>' or where to go on claiming
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return false end
local entries, cursor, times = {}, '', {}
if ARGV[4] == '>' then
  local read = redis.call('XREADGROUP', 'GROUP', 'writers', ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
  if read then entries = read[1][2] end
else
  -- What earlier owners were given and have not finished.
  local claimed = redis.call('XAUTOCLAIM', KEYS[1], 'writers', ARGV[2], 0, ARGV[4], 'COUNT', ARGV[3])
  cursor, entries = claimed[1], claimed[2]
  for _, pending in ipairs(redis.call('XPENDING', KEYS[1], 'writers', ARGV[4], '+', ARGV[3])) do
    times[pending[1]] = pending[4]
  end
end
local found = {}
for _, entry in ipairs(entries) do
  -- Some servers name what has been deleted meanwhile.
  if entry and entry[2] then
    found[#found + 1] = {entry[1], entry[2][2], entry[2][4], times[entry[1]] or 1}
  end
end
return {cursor, found}
