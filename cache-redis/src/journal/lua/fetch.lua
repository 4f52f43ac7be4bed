-- KEYS: log, last, state, owner, dead   ARGV: token, consumer, count, '>' or after which number of what was given out
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return false end
local found, last = {}, ''
local function add(entry, times)
  -- Some servers name what has been deleted meanwhile. What is somebody else's has as many fields as that likes.
  if entry and entry[2] then found[#found + 1] = {entry[1], entry[2][2], entry[2][4] or '', times} end
end
if ARGV[4] == '>' then
  local read = redis.call('XREADGROUP', 'GROUP', 'writers', ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(read and read[1][2] or {}) do
    add(entry, 1)
    last = entry[1]
  end
else
  -- Up to this number it is counted that the owner has been given what earlier ones have not finished. However often it
  -- asks, each entry counts once.
  local counted = tonumber(redis.call('HGET', KEYS[3], 'counted') or math.huge)
  local pending = redis.call('XPENDING', KEYS[1], 'writers', '(' .. ARGV[4], '+', ARGV[3])
  for _, one in ipairs(pending) do
    local id, times = one[1], one[4]
    if tonumber(string.match(id, '^%d+')) > counted then
      add(redis.call('XCLAIM', KEYS[1], 'writers', ARGV[2], 0, id)[1], times + 1)
    else
      add(redis.call('XRANGE', KEYS[1], id, id)[1], times)
    end
    last = id
  end
end
if last ~= '' then
  local counted, number = redis.call('HGET', KEYS[3], 'counted'), string.match(last, '^%d+')
  if counted and tonumber(number) > tonumber(counted) then
    redis.call('HSET', KEYS[3], 'counted', number)
  end
end
return {last, found}
