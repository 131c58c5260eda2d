-- One board. Every change of its scores stands here.
--
-- apply  KEYS: board, what it has applied, the stream's hash.  ARGV: verb, stream, session, first, last, counts as JSON.
-- bare   KEYS: board, the lease for bare names.                ARGV: verb, holder, counts as JSON.
-- top    KEYS: board.                                          ARGV: verb, offset, limit.

local board, verb = KEYS[1], ARGV[1]

local function add(counts)
  for name, count in pairs(cjson.decode(counts)) do
    redis.call('ZINCRBY', board, count, name)
  end
end

-- Add the names of batches first..last and note in the same step that they are in. A refusal changes nothing.
local function apply()
  local name, session, first, last = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
  local state = redis.call('HMGET', KEYS[3], 'owner', 'seq')
  local applied = tonumber(redis.call('HGET', KEYS[2], name) or -1)
  if state[1] ~= session then return {'fenced', applied} end -- guard
  if last > tonumber(state[2] or 0) then return {'ahead', applied} end -- guard
  if first ~= applied + 1 then return {'out of step', applied} end -- guard
  add(ARGV[6])
  redis.call('HSET', KEYS[2], name, last)
  return {'applied', last}
end

-- Add names that came outside of any batch, at most once: only while this instance holds the lease.
local function bare()
  if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
  add(ARGV[3])
  return 1
end

-- Read one page: how many names there are, how many stand above the page's first row, and the rows.
local function top()
  local offset, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
  local rows = redis.call('ZREVRANGE', board, offset, offset + limit - 1, 'WITHSCORES')
  local above = #rows > 0 and redis.call('ZCOUNT', board, '(' .. rows[2], '+inf') or 0
  return {redis.call('ZCARD', board), above, rows}
end

if verb == 'apply' then return apply() end
if verb == 'bare' then return bare() end
return top()
