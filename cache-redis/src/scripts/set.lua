-- fixed part of the header, fresh and usable in microseconds, expiry in milliseconds, payload
store(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
