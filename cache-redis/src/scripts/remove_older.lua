-- the time after which an entry is newer than its removal, and the end of a version that is newer, too
local s = slot()
if s and s.entry and (written(s.version) > tonumber(ARGV[1]) or string.sub(s.version, 5) == ARGV[2]) then
  return 0
end
return redis.call('UNLINK', key)
