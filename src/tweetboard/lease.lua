-- Who may do a thing that only one daemon at a time should do. A lease prevents duels; it protects no count.
-- KEYS: the lease.  ARGV: verb, holder, life in ms.

local lease, verb, holder = KEYS[1], ARGV[1], ARGV[2]
local held = redis.call('GET', lease)

if held and held ~= holder then return held end
if verb == 'hold' then
  redis.call('SET', lease, holder, 'PX', ARGV[3])
elseif held then
  redis.call('DEL', lease)
end
return holder
