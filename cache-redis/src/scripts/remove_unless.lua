-- the version that is spared
if entry and version == tonumber(ARGV[1]) then
  return 0
end
return redis.call('UNLINK', key)
