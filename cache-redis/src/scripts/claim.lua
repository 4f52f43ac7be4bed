-- token, life in microseconds, life in milliseconds, version that was seen or nothing
if entry and version ~= tonumber(ARGV[4]) then
  return {1, now, redis.call('GET', key)}
end
if leased > now then
  if leased_to(ARGV[1]) then
    return {0}
  end
  return {2, leased - now}
end
local token1, token2 = struct.unpack('>I4I4', ARGV[1])
local lease1, lease2 = halves(now + ARGV[2])
if entry then
  redis.call('SETRANGE', key, 0, header(flags % 4 + 4, token1, token2, lease1, lease2))
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', key, ARGV[3])
  end
else
  load, length, written, version, fresh1, fresh2, usable1, usable2 = 0, 0, 0, 0, 0, 0, 0, 0
  redis.call('SET', key, header(4, token1, token2, lease1, lease2), 'PX', ARGV[3])
end
return {0}
