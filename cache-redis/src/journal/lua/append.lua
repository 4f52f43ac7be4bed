-- KEYS: log, last, state, owner, dead   ARGV: key, body, most writes, most bytes, not after
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[5]) then return 0 end
local old, old_id, old_bytes = redis.call('HGET', KEYS[2], ARGV[1]), nil, 0
if old then
  old_id = string.match(old, '^%d+')
  old_bytes = #ARGV[1] + #old - #old_id - 1
elseif redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then
  return -1
end
local more = #ARGV[1] + #ARGV[2] - old_bytes
local all = tonumber(redis.call('HGET', KEYS[3], 'bytes') or '0')
if more > 0 and all > 0 and all + more > tonumber(ARGV[4]) then return -1 end
-- Numbers keep up with the time, so what comes after a loss, of the last writes or of the whole journal, is higher than what
-- was lost.
local seq = math.max(tonumber(redis.call('HGET', KEYS[3], 'seq') or '0') or 0, now)
local id = string.format('%.0f', seq + 1)
redis.call('XADD', KEYS[1], id .. '-0', 'k', ARGV[1], 'b', ARGV[2])
if old_id then
  -- Of each key only the last write is kept. Whoever makes the older one just now is not disturbed.
  redis.call('XACK', KEYS[1], 'writers', old_id .. '-0')
  redis.call('XDEL', KEYS[1], old_id .. '-0')
end
redis.call('HSET', KEYS[2], ARGV[1], id .. ':' .. ARGV[2])
redis.call('HSET', KEYS[3], 'seq', id, 'bytes', string.format('%.0f', all + more))
return seq + 1
