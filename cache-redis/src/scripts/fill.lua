-- token, and then as store
if entry and version == struct.unpack('>I4', ARGV[2], 21) then
  return 1
end
if leased <= now or not leased_to(ARGV[1]) then
  return 0
end
store(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
