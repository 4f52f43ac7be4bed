-- token, life in microseconds, life in milliseconds, version that was seen
local s = slot()
if s and s.entry and string.sub(s.version, 5) ~= string.sub(ARGV[4], 5) then
  return {1, now, redis.call('GET', key)}
end
if s and s.leased > now then
  if s.token == ARGV[1] then
    return {0}
  end
  return {2, s.leased - now}
end
local lease = ARGV[1] .. struct.pack('>I8', now + ARGV[2])
if s and s.entry then
  redis.call('SETRANGE', key, 0, sealed(flagged(s.flags + 4) .. s.rest .. lease))
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', key, ARGV[3])
  end
else
  redis.call('SET', key, sealed(flagged(4) .. string.rep('\0', 32) .. lease), 'PX', ARGV[3])
end
return {0}
