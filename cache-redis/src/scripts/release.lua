-- token
if not leased_to(ARGV[1]) then
  return 0
end
if not entry then
  redis.call('UNLINK', key)
  return 1
end
redis.call('SETRANGE', key, 0, header(flags % 4, 0, 0, 0, 0))
if usable1 ~= NEVER or usable2 ~= NEVER then
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((usable - now) / 1000)))
end
return 1
