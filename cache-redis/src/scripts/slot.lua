-- The slot under the key. Of one that is not there, or that this version can't read, there is neither entry nor lease.
local flags, load, length, written, version, fresh1, fresh2, usable1, usable2, token1, token2, lease1, lease2
-- Whether there is a usable entry, until when it is usable, and until when there is a lease.
local entry, usable, leased = false, 0, 0

-- The sum of a header's words, each with a weight of its own. It stays below 2^53, so it is exact.
local function sum(flags, load, length, written, version, fresh1, fresh2, usable1, usable2, token1, token2, lease1, lease2)
  return (MAGIC + flags * 2 + load * 3 + length * 4 + written * 5 + version * 6 + fresh1 * 7 + fresh2 * 8 + usable1 * 9
    + usable2 * 10 + token1 * 11 + token2 * 12 + lease1 * 13 + lease2 * 14) * 7919 % 4294967291
end

local head = redis.pcall('GETRANGE', key, 0, 59)
if type(head) == 'string' and #head == 60 then
  local magic, seal
  magic, flags, load, length, written, version, fresh1, fresh2, usable1, usable2, token1, token2, lease1, lease2, seal =
    struct.unpack('>I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4', head)
  if magic == MAGIC and (flags == 1 or flags == 3 or flags == 4 or flags == 5 or flags == 7)
    and seal == sum(flags, load, length, written, version, fresh1, fresh2, usable1, usable2, token1, token2, lease1, lease2)
    and redis.call('STRLEN', key) == 60 + length then
    usable = usable1 * 4294967296 + usable2
    entry = flags ~= 4 and usable > now
    leased = flags >= 4 and lease1 * 4294967296 + lease2 or 0
  end
end

-- Whether the lease, which may be over, is this token's.
local function leased_to(token)
  local first, second = struct.unpack('>I4I4', token)
  return leased > 0 and token1 == first and token2 == second
end

-- The same header with these flags and this lease.
local function header(flags, token1, token2, lease1, lease2)
  return struct.pack('>I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4', MAGIC, flags, load, length, written, version, fresh1, fresh2,
    usable1, usable2, token1, token2, lease1, lease2,
    sum(flags, load, length, written, version, fresh1, fresh2, usable1, usable2, token1, token2, lease1, lease2))
end
