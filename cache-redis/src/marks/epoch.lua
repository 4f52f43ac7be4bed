-- the log's life in milliseconds
local _, newest = epochs()
redis.call('PEXPIRE', log, ARGV[1])
return newest
