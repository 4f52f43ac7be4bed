-- KEYS: log, last, state, owner, dead
-- ARGV: 'acquire' | 'renew' | 'release', life in milliseconds, who asks for it (acquire) or the owner's token
local owner = redis.call('GET', KEYS[4])
if ARGV[1] == 'acquire' then
  local before = redis.call('HGET', KEYS[3], 'process')
  local fence = redis.call('HGET', KEYS[3], 'fence') or '0'
  if owner then
    if owner ~= fence .. ':' .. ARGV[3] then return {0, redis.call('PTTL', KEYS[4])} end
    -- It was granted, and the answer was lost.
    redis.call('PEXPIRE', KEYS[4], ARGV[2])
    return {1, tonumber(fence)}
  end
  -- Each owner has a higher number than the one before, also if the server has lost its data. If its clock was set back
  -- as well, the owners still differ by who they are.
  local time = redis.call('TIME')
  local token = math.max((tonumber(fence) or 0) + 1, time[1] * 1000000 + time[2])
  fence = string.format('%.0f', token)
  redis.call('HSET', KEYS[3], 'fence', fence)
  redis.call('SET', KEYS[4], fence .. ':' .. ARGV[3], 'PX', ARGV[2])
  redis.pcall('XGROUP', 'CREATE', KEYS[1], 'writers', '0', 'MKSTREAM')
  redis.call('HSET', KEYS[3], 'process', ARGV[3])
  -- Whoever comes after a process that has not let go may be after one that has died of a write.
  if before and before ~= ARGV[3] then redis.call('HSET', KEYS[3], 'counted', 0) end
  return {1, token}
end
if owner ~= ARGV[3] then return {0, 0} end
if ARGV[1] == 'renew' then
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
else
  redis.call('DEL', KEYS[4])
  redis.call('HDEL', KEYS[3], 'process')
end
return {1, redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[5])}
