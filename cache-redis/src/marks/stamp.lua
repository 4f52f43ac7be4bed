-- the log's life, the marks' life in milliseconds or nothing, the epoch since when or nothing, and the tag of each mark
local cut, newest = epochs()
redis.call('PEXPIRE', log, ARGV[1])
local since = tonumber(ARGV[3])
if since and since > newest then
  return false
end
local marks = redis.call('MGET', unpack(KEYS, 2))
local stamps, made = {}, {}
for i = 1, #KEYS - 1 do
  -- Readers take anything else than such a number for a lost mark.
  local mark = marks[i] and #marks[i] < 17 and string.match(marks[i], '^%d+$') and tonumber(marks[i])
  if not mark then
    mark = tonumber(redis.call('ZSCORE', log, ARGV[3 + i]) or nil) or cut
    made[i] = true
  end
  if since and mark > since then
    return false
  end
  stamps[i] = mark
end
local life = tonumber(ARGV[2])
for i = 1, #stamps do
  local key = KEYS[i + 1]
  if made[i] then
    if life then
      redis.call('SET', key, number(stamps[i]), 'PX', ARGV[2])
    else
      redis.call('SET', key, number(stamps[i]))
    end
  else
    -- Never shorter than what it guards already.
    local left = redis.call('PTTL', key)
    if left >= 0 and not life then
      redis.call('PERSIST', key)
    elseif left >= 0 and left < life then
      redis.call('PEXPIRE', key, ARGV[2])
    end
  end
end
return stamps
