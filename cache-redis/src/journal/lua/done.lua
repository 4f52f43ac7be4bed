-- KEYS: log, last, state, owner, dead   ARGV: token, most letters, then key, number, letter or '' of each write
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return -1 end
for i = 3, #ARGV, 3 do
  local key, seq, letter = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if letter ~= '' then
    if redis.call('HLEN', KEYS[5]) >= tonumber(ARGV[2]) then return -2 end
    redis.call('HSET', KEYS[5], seq, letter)
  end
  redis.call('XACK', KEYS[1], 'writers', seq .. '-0')
  redis.call('XDEL', KEYS[1], seq .. '-0')
  local last = redis.call('HGET', KEYS[2], key)
  if last then
    local id = string.match(last, '^%d+')
    -- Nothing newer is removed.
    if tonumber(id) <= tonumber(seq) then
      redis.call('HDEL', KEYS[2], key)
      redis.call('HINCRBY', KEYS[3], 'bytes', -(#key + #last - #id - 1))
    end
  end
end
return redis.call('HLEN', KEYS[5])
