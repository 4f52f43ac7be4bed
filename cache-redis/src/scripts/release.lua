-- token
local s = slot()
if not s or s.token ~= ARGV[1] then
  return 0
end
if not s.entry then
  redis.call('UNLINK', key)
  return 1
end
redis.call('SETRANGE', key, 0, sealed(flagged(s.flags) .. s.rest .. NO_LEASE))
if not s.immortal then
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((s.usable - now) / 1000)))
end
return 1
