-- Counts one hit in a window that begins with its first hit and is not prolonged by later ones.
-- KEYS[1]  the window's counter
-- ARGV[1]  how long a window lasts, in milliseconds
-- Answers { hits in the window, this one included; milliseconds until the window ends }.
local count = redis.call("INCR", KEYS[1])
local left_ms = redis.call("PTTL", KEYS[1])
if left_ms <= 0 then
  -- A first hit, a window that ends in this very millisecond, or a counter that lost its expiry (PERSIST, a restored
  -- dump) and would refuse its key for ever: in each case a window begins here.
  count = 1
  left_ms = tonumber(ARGV[1])
  redis.call("SET", KEYS[1], count, "PX", ARGV[1])
end
return { count, left_ms }
