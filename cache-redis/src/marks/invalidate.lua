-- the log's life in milliseconds, its length, and the tag of each mark
local cut, newest = epochs()
local epoch = math.max(newest + 1, now)
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], number(epoch), 'XX', 'KEEPTTL')
  redis.call('ZADD', log, number(epoch), ARGV[i + 1])
end
local excess = redis.call('ZCARD', log) - 1 - ARGV[2]
if excess > 0 then
  -- The empty tag is among them, since it is never later than any other.
  local oldest = redis.call('ZRANGE', log, 0, excess, 'WITHSCORES')
  cut = math.max(cut, tonumber(oldest[#oldest]))
  redis.call('ZREMRANGEBYRANK', log, 0, excess)
  redis.call('ZADD', log, number(cut), '')
end
redis.call('PEXPIRE', log, ARGV[1])
return 1
