-- What all scripts begin with: their key, and the server's time in microseconds.
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
