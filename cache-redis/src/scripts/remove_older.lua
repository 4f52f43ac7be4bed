-- the time after which an entry is newer than its removal, and a version that is newer, too, or nothing
if entry and (written * 1048576 > tonumber(ARGV[1]) or version == tonumber(ARGV[2])) then
  return 0
end
return redis.call('UNLINK', key)
