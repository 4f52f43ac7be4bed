-- What the scripts about tags share. The first key is the log of invalidations: a sorted set of tags with the epochs
-- at which they were invalidated last, and an empty tag with the epoch up to which the log has been cut.
local log = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function number(n)
  return string.format('%.0f', n)
end

-- The log is made anew if it was lost, or is something else. The time is later than every epoch before, so it is as if all that nobody
-- remembers had been invalidated now.
local function epochs()
  local cut = redis.pcall('ZSCORE', log, '')
  if type(cut) ~= 'string' then
    cut = now
    redis.call('DEL', log)
    redis.call('ZADD', log, number(now), '')
  end
  return tonumber(cut), tonumber(redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2])
end
