-- The header of a slot (see the crate's documentation) is 15 words, of which two are a number. They are locals, not a
-- table of them or pieces of the string: what a script costs the server is mostly what it makes.
local MAGIC, NEVER = 0x8D435301, 0xFFFFFFFF

local function halves(number)
  local low = number % 4294967296
  return (number - low) / 4294967296, low
end
