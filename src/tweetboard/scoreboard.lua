-- One board. Every change of its scores stands here.
--
-- apply  KEYS: board, what it has applied, the stream's hash.  ARGV: verb, stream, session, first, last, counts as JSON.
-- bare   KEYS: board, the lease for bare names.                ARGV: verb, holder, counts as JSON.
-- top    KEYS: board.                                          ARGV: verb, offset, limit.

local board, verb = KEYS[1], ARGV[1]

-- Many scores are read and written in two commands, a third less work than a ZINCRBY for each; Lua hands over at most
-- some 8,000 values at once.
local SLICE = 2000

local function add(counts)
  local names, more = {}, {}
  for name, count in pairs(cjson.decode(counts)) do
    names[#names + 1], more[#more + 1] = name, count
  end
  for first = 1, #names, SLICE do
    local last = math.min(first + SLICE - 1, #names)
    local scores, entries = redis.call('ZMSCORE', board, unpack(names, first, last)), {}
    for i = first, last do
      local score = tonumber(scores[i - first + 1] or 0) + more[i]
      entries[#entries + 1], entries[#entries + 2] = string.format('%.17g', score), names[i]
    end
    redis.call('ZADD', board, unpack(entries))
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
