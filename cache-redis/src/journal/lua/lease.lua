-- KEYS: log, last, state, owner, dead   ARGV: 'acquire' | 'renew' | 'release', token, life in milliseconds
local owner = redis.call('GET', KEYS[4])
if ARGV[1] == 'acquire' then
  if owner then return {0, redis.call('PTTL', KEYS[4])} end
  -- Each owner has a higher token than the one before.
  local token = redis.call('HINCRBY', KEYS[3], 'fence', 1)
  redis.call('SET', KEYS[4], token, 'PX', ARGV[3])
  redis.pcall('XGROUP', 'CREATE', KEYS[1], 'writers', '0', 'MKSTREAM')
  return {1, token}
end
if owner ~= ARGV[2] then return {0, 0} end
if ARGV[1] == 'renew' then
  redis.call('PEXPIRE', KEYS[4], ARGV[3])
else
  redis.call('DEL', KEYS[4])
end
return {1, redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[5])}
