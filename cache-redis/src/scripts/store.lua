-- Writes an entry without a lease, and its expiry, whatever was there before: the fixed part of the header, fresh and usable
-- in microseconds, expiry in milliseconds, payload. A version begins with when the entry was written, in steps of 2^20
-- microseconds.
local function store(fixed, fresh, usable, px, payload)
  local _, flags, load, length, _, version = struct.unpack('>I4I4I4I4I4I4', fixed)
  local written = (now - now % 1048576) / 1048576
  local fresh1, fresh2, usable1, usable2 = NEVER, NEVER, NEVER, NEVER
  if fresh ~= '' then
    fresh1, fresh2 = halves(now + fresh)
  end
  if usable ~= '' then
    usable1, usable2 = halves(now + usable)
  end
  -- Of the words that are not zero, as in `sum`.
  local seal = (MAGIC + flags * 2 + load * 3 + length * 4 + written * 5 + version * 6 + fresh1 * 7 + fresh2 * 8
    + usable1 * 9 + usable2 * 10) * 7919 % 4294967291
  local bytes = struct.pack('>I4I4I4I4I4I4I4I4I4I4I8I8I4', MAGIC, flags, load, length, written, version,
    fresh1, fresh2, usable1, usable2, 0, 0, seal) .. payload
  if px == '' then
    redis.call('SET', key, bytes)
  else
    redis.call('SET', key, bytes, 'PX', px)
  end
end
