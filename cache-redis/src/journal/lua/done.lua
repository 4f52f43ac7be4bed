-- KEYS: log, last, state, owner, dead   ARGV: token, most letters, then key, number, letter or '' of each write
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return -1 end
for i = 3, #ARGV, 3 do
  local key, seq, letter = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local id = seq .. '-0'
  -- What has been overtaken is not there any more, and nothing to be remembered.
  if letter ~= '' and redis.call('XRANGE', KEYS[1], id, id)[1] then
    if redis.call('HLEN', KEYS[5]) >= tonumber(ARGV[2]) then return -2 end
    redis.call('HSET', KEYS[5], seq, letter)
  end
  redis.call('XACK', KEYS[1], 'writers', id)
  redis.call('XDEL', KEYS[1], id)
  local last = redis.call('HGET', KEYS[2], key)
  if last then
    local newest = string.match(last, '^%d+')
    -- Nothing newer is removed.
    if tonumber(newest) <= tonumber(seq) then
      redis.call('HDEL', KEYS[2], key)
      redis.call('HINCRBY', KEYS[3], 'bytes', -(#key + #last - #newest - 1))
    end
  end
end
return redis.call('HLEN', KEYS[5])
