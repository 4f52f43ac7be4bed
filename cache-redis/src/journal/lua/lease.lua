-- KEYS: log, last, state, owner, dead
-- ARGV: 'acquire' | 'renew' | 'release', life in milliseconds, who asks for it (acquire) or the token
local owner = redis.call('GET', KEYS[4])
if ARGV[1] == 'acquire' then
  local before = redis.call('HGET', KEYS[3], 'process')
  if owner then
    local ours = before == ARGV[3] and owner == redis.call('HGET', KEYS[3], 'fence')
    if not ours then return {0, redis.call('PTTL', KEYS[4])} end
    -- It was granted, and the answer was lost.
    redis.call('PEXPIRE', KEYS[4], ARGV[2])
    return {1, tonumber(owner)}
  end
  -- Each owner has a higher token than the one before.
  local token = redis.call('HINCRBY', KEYS[3], 'fence', 1)
  redis.call('SET', KEYS[4], token, 'PX', ARGV[2])
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
