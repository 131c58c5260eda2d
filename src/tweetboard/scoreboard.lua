-- One board. Every change of its scores stands here.
--
-- apply  KEYS: board, shown, seen, what it has applied, the stream's hash.  ARGV: verb, stream, session, first, last, names.
-- bare   KEYS: board, shown, seen, the lease for bare names.                ARGV: verb, holder, names.
-- top    KEYS: board, shown.                                                ARGV: verb, offset, limit, hidden names as JSON.
--
-- `shown` is a hash of how names are shown that are not shown as they stand on the board; `seen`, of how often each
-- spelling was met. `names` are three arguments of JSON: {name: how many}, [[name, its spelling, how many]...] for all
-- that are spelled otherwise, {name: how it is to be shown}.

local board, shown, verb = KEYS[1], KEYS[2], ARGV[1]

-- Many values are read or written by one command, a third less work than by one for each; Lua hands over at most some
-- 8,000 at once.
local SLICE = 4000

local function read(command, key, fields)
  local found = {}
  for first = 1, #fields, SLICE do
    local last = math.min(first + SLICE - 1, #fields)
    local values = redis.call(command, key, unpack(fields, first, last))
    if #fields <= SLICE then return values end
    for i = 1, #values do found[first + i - 1] = values[i] end
  end
  return found
end

local function write(command, key, words)
  for first = 1, #words, SLICE do
    redis.call(command, key, unpack(words, first, math.min(first + SLICE - 1, #words)))
  end
end

-- Work out which spelling of each name is to be shown: the one met most often, of several the first that was. They are
-- counted from the moment on that a name is met in another spelling than its own; until then its score says how often
-- that was. Answers what is to be written to `shown` and to `seen`.
local function spell(counts, spelled)
  local own, met, more, names, new = {}, {}, {}, {}, {}
  for name, count in pairs(counts) do
    names[#names + 1], own[name], met[name] = name, count, {}
  end
  for _, one in ipairs(spelled) do
    local name, spelling, count = one[1], one[2], one[3]
    own[name], more[spelling] = own[name] - count, count
    table.insert(met[name], spelling)
  end
  local before, touched = {}, {}
  for i, value in ipairs(read('HMGET', shown, names)) do
    local name = names[i]
    if value then
      before[name] = value
    elseif #met[name] > 0 then
      new[#new + 1] = name
    end
    if value or #met[name] > 0 then touched[#touched + 1] = name end
  end
  local shown_as = {}
  for i, score in ipairs(read('ZMSCORE', board, new)) do
    if score then own[new[i]], shown_as[new[i]] = own[new[i]] + tonumber(score), new[i] end
  end

  local spellings, seen = {}, {}
  for _, name in ipairs(touched) do
    if own[name] > 0 then
      more[name] = own[name]
      table.insert(met[name], name)
    end
    if before[name] and not more[before[name]] then spellings[#spellings + 1] = before[name] end
    for _, spelling in ipairs(met[name]) do spellings[#spellings + 1] = spelling end
  end
  local to_seen, to_shown = {}, {}
  for i, count in ipairs(read('HMGET', KEYS[3], spellings)) do
    local spelling = spellings[i]
    seen[spelling] = tonumber(count or 0) + (more[spelling] or 0)
    if more[spelling] then
      to_seen[#to_seen + 1], to_seen[#to_seen + 2] = spelling, string.format('%.17g', seen[spelling])
    end
  end
  for _, name in ipairs(touched) do
    local best = before[name] or shown_as[name]
    for _, spelling in ipairs(met[name]) do
      if not best or seen[spelling] > seen[best] then best = spelling end
    end
    if best ~= before[name] then to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, best end
  end
  return to_shown, to_seen
end

-- Add names, which stand in ARGV from `at` on. All keys are read before any is written, so that one of another type
-- ends the script before it has changed anything.
local function add(at)
  local counts, spelled, displays = cjson.decode(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local to_shown, to_seen = {}, {}
  if spelled ~= '' then to_shown, to_seen = spell(counts, cjson.decode(spelled)) end
  if displays ~= '{}' then
    redis.call('HLEN', shown)
    for name, display in pairs(cjson.decode(displays)) do
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, display
    end
  end
  local names, entries = {}, {}
  for name in pairs(counts) do names[#names + 1] = name end
  for i, score in ipairs(read('ZMSCORE', board, names)) do
    local name = names[i]
    entries[2 * i - 1], entries[2 * i] = string.format('%.17g', tonumber(score or 0) + counts[name]), name
  end
  write('ZADD', board, entries)
  write('HSET', KEYS[3], to_seen)
  write('HSET', shown, to_shown)
end

-- Add the names of batches first..last and note in the same step that they are in. A refusal changes nothing.
local function apply()
  local name, session, first, last = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
  local state = redis.call('HMGET', KEYS[5], 'owner', 'seq')
  local applied = tonumber(redis.call('HGET', KEYS[4], name) or -1)
  if state[1] ~= session then return {'fenced', applied} end -- guard
  if last > tonumber(state[2] or 0) then return {'ahead', applied} end -- guard
  if first ~= applied + 1 then return {'out of step', applied} end -- guard
  add(6)
  redis.call('HSET', KEYS[4], name, last)
  return {'applied', last}
end

-- Add names that came outside of any batch, at most once: only while this instance holds the lease.
local function bare()
  if redis.call('GET', KEYS[4]) ~= ARGV[2] then return 0 end
  add(3)
  return 1
end

-- Find where the hidden names stand: name -> score, and their places in ascending order.
local function hidden(names)
  local scores, places = {}, {}
  for i, score in ipairs(read('ZMSCORE', board, names)) do
    if score then
      scores[names[i]] = tonumber(score)
      places[#places + 1] = redis.call('ZREVRANK', board, names[i])
    end
  end
  table.sort(places)
  return scores, places
end

-- Read one page, as if the hidden names were not there: how many names there are, how many stand above the page's first
-- row, the rows, and how they are shown.
local function top()
  local first, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
  local without, places = hidden(cjson.decode(ARGV[4]))
  local last = first + limit - 1
  for _, place in ipairs(places) do
    if place <= first then first = first + 1 end
    if place <= last then last = last + 1 end
  end
  local found = redis.call('ZREVRANGE', board, first, last, 'WITHSCORES')
  local rows, names = {}, {}
  for i = 1, #found, 2 do
    if not without[found[i]] then
      rows[#rows + 1], rows[#rows + 2], names[#names + 1] = found[i], found[i + 1], found[i]
    end
  end
  local above = #rows > 0 and redis.call('ZCOUNT', board, '(' .. rows[2], '+inf') or 0
  for _, score in pairs(without) do
    if #rows > 0 and score > tonumber(rows[2]) then above = above - 1 end
  end
  return {redis.call('ZCARD', board) - #places, above, rows, read('HMGET', shown, names)}
end

if verb == 'apply' then return apply() end
if verb == 'bare' then return bare() end
return top()
