-- Counts one hit in a window, which begins with its first hit and is not extended by later ones.
-- KEYS[1]  the window's counter
-- ARGV[1]  how long a window lasts, in milliseconds
-- Returns { hits in the window, including this one; milliseconds until the window ends }.
local count = redis.call("INCR", KEYS[1])
local left_ms = redis.call("PTTL", KEYS[1])
if left_ms <= 0 then
  -- Begin a window: this is a first hit, the window ends in this very millisecond, or the counter lost its expiry
  -- (PERSIST, a restored dump) and would refuse its key forever.
  count = 1
  left_ms = tonumber(ARGV[1])
  redis.call("SET", KEYS[1], count, "PX", ARGV[1])
end
return { count, left_ms }
