-- token, and then as in set
local s = slot()
if s and s.entry and string.sub(s.version, 5) == string.sub(ARGV[2], 21, 24) then
  return 1
end
if not s or s.token ~= ARGV[1] or s.leased <= now then
  return 0
end
store(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
