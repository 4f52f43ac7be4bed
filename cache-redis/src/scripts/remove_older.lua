-- the time after which an entry is newer than its removal
local s = slot()
if s and s.entry and written(s.version) > tonumber(ARGV[1]) then
  return 0
end
return redis.call('UNLINK', key)
