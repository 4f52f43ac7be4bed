-- as store, and the time after which its sender does not wait for it any more
if now > tonumber(ARGV[6]) then
  return 0
end
store(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
