-- What all scripts share: the server's time, and the header of a slot (see the crate's documentation).
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local MAGIC = '\141CS\1'
local NEVER = '\255\255\255\255\255\255\255\255'
local NO_LEASE = string.rep('\0', 16)

local function sealed(body)
  local words = {struct.unpack('>I4I4I4I4I4I4I4I4I4I4I4I4I4I4', body)}
  local sum = 0
  for i = 1, 14 do
    sum = sum + words[i] * (i * 7919)
  end
  return string.sub(body, 1, 56) .. struct.pack('>I4', sum % 4294967291)
end

-- The slot; nil if there is none, or one that this version can't read.
local function slot()
  local head = redis.pcall('GETRANGE', key, 0, 59)
  if type(head) ~= 'string' or #head < 60 or string.sub(head, 1, 4) ~= MAGIC or sealed(head) ~= head then
    return nil
  end
  local flags, _, length = struct.unpack('>I4I4I4', head, 5)
  local legal = flags == 1 or flags == 3 or flags == 4 or flags == 5 or flags == 7
  if not legal or redis.call('STRLEN', key) ~= 60 + length then
    return nil
  end
  local usable = struct.unpack('>I8', head, 33)
  return {
    entry = flags ~= 4 and usable > now,
    flags = flags % 4,
    rest = string.sub(head, 9, 40),
    version = string.sub(head, 17, 24),
    usable = usable,
    immortal = string.sub(head, 33, 40) == NEVER,
    token = flags >= 4 and string.sub(head, 41, 48) or nil,
    leased = flags >= 4 and struct.unpack('>I8', head, 49) or 0,
  }
end

local function flagged(flags)
  return MAGIC .. struct.pack('>I4', flags)
end

local function ending(life)
  return life == '' and NEVER or struct.pack('>I8', now + life)
end

-- A version begins with when the entry was written, in steps of 2^20 microseconds.
local function written(version)
  return struct.unpack('>I4', version) * 1048576
end

-- Writes an entry and its expiry, whatever was there before.
local function store(fixed, fresh, usable, px, payload)
  local version = struct.pack('>I4', math.floor(now / 1048576)) .. string.sub(fixed, 21, 24)
  local bytes = sealed(string.sub(fixed, 1, 16) .. version .. ending(fresh) .. ending(usable) .. NO_LEASE) .. payload
  if px == '' then
    redis.call('SET', key, bytes)
  else
    redis.call('SET', key, bytes, 'PX', px)
  end
end
