-- One board. Every change of its scores stands here.
--
-- apply  KEYS: board, shown, seen, what it has applied, the stream's hash.  ARGV: verb, stream, session, first, last, names.
-- bare   KEYS: board, shown, seen, the lease for bare names.                ARGV: verb, holder, names.
-- top    KEYS: board, shown.                                                ARGV: verb, offset, limit, hidden names as JSON.
--
-- `shown` is a hash of how names are shown that are not shown as they stand on the board; `seen`, of how often spellings
-- were met. `names` are three arguments of JSON: {name: how many}, [[name, its spelling, how many]...] for all
-- that are spelled otherwise, {name: how it is to be shown}.

local board, shown, seen, verb = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

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

-- Note how often each spelling of a name was met that has several; the name itself is one of them. As long as a name has
-- a single one, its score says how often that was, and `seen` has nothing of it: most names cost no more than a look.
-- Answers what is to be written to `shown`, which of them was met most often, of several the first that was, and to `seen`.
local function spell(names, counts, scores, spelled)
  local met = {}
  for _, one in ipairs(spelled) do
    local name = one[1]
    if not met[name] then met[name] = {} end
    table.insert(met[name], one)
  end
  local displays = read('HMGET', shown, names)
  local several, asked = {}, {}
  for i, name in ipairs(names) do
    if displays[i] then
      several[#several + 1], asked[#asked + 1] = i, displays[i]
    elseif met[name] then
      several[#several + 1], asked[#asked + 1] = i, name
    end
  end

  -- Those that have a single spelling after this step too are done with.
  local to_shown, to_seen, more, last = {}, {}, {}, {}
  for at, count in ipairs(read('HMGET', seen, asked)) do
    local i = several[at]
    local name, display, found = names[i], displays[i], met[names[i]] or {}
    local before = display or (scores[i] and name)
    local own = counts[name]
    for _, one in ipairs(found) do own = own - one[3] end
    local only = #found == 0 and name or (#found == 1 and own == 0 and found[1][2])
    if count or not only or (before and only ~= before) then
      if before and not count then more[before] = tonumber(scores[i] or 0) end
      if own > 0 then more[name] = (more[name] or 0) + own end
      for _, one in ipairs(found) do more[one[2]] = (more[one[2]] or 0) + one[3] end
      last[name] = {before, found, own > 0}
    elseif not before and only ~= name then
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, only
    end
  end

  local spellings, all = {}, {}
  for name, one in pairs(last) do
    if one[1] then spellings[#spellings + 1] = one[1] end
    for _, other in ipairs(one[2]) do spellings[#spellings + 1] = other[2] end
    if one[3] then spellings[#spellings + 1] = name end
  end
  for i, count in ipairs(read('HMGET', seen, spellings)) do
    local spelling = spellings[i]
    all[spelling] = tonumber(count or 0) + (more[spelling] or 0)
  end
  for spelling, count in pairs(more) do
    to_seen[#to_seen + 1], to_seen[#to_seen + 2] = spelling, string.format('%.17g', all[spelling])
  end
  for name, one in pairs(last) do
    local best = one[1]
    for _, other in ipairs(one[2]) do
      if not best or all[other[2]] > all[best] then best = other[2] end
    end
    if one[3] and (not best or all[name] > all[best]) then best = name end
    to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, best
  end
  return to_shown, to_seen
end

-- Add names, which stand in ARGV from `at` on. All keys are read before any is written, so that one of another type
-- ends the script before it has changed anything.
local function add(at)
  local counts, spelled, displays = cjson.decode(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local names, entries, to_shown, to_seen = {}, {}, {}, {}
  for name in pairs(counts) do names[#names + 1] = name end
  local scores = read('ZMSCORE', board, names)
  if spelled ~= '' then to_shown, to_seen = spell(names, counts, scores, cjson.decode(spelled)) end
  if displays ~= '{}' then
    redis.call('HLEN', shown)
    for name, display in pairs(cjson.decode(displays)) do
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, display
    end
  end
  for i, name in ipairs(names) do
    entries[2 * i - 1], entries[2 * i] = string.format('%.17g', tonumber(scores[i] or 0) + counts[name]), name
  end
  write('ZADD', board, entries)
  write('HSET', seen, to_seen)
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

-- Find the hidden names that are on the board, name -> score, how many these are, and in ascending order the places of
-- those that may stand above the end of a page: looking a place up costs ten times as much as a score.
local function hidden(names, page_end)
  local scores, count, places = {}, 0, {}
  for i, score in ipairs(read('ZMSCORE', board, names)) do
    if score then scores[names[i]], count = tonumber(score), count + 1 end
  end
  if count > 0 then
    local last = redis.call('ZREVRANGE', board, page_end + count, page_end + count, 'WITHSCORES')[2]
    for name, score in pairs(scores) do
      if not last or score >= tonumber(last) then places[#places + 1] = redis.call('ZREVRANK', board, name) end
    end
    table.sort(places)
  end
  return scores, count, places
end

-- Read one page, as if the hidden names were not there: how many names there are, how many stand above the page's first
-- row, the rows, and how they are shown.
local function top()
  local first, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
  local last = first + limit - 1
  local without, count, places = hidden(cjson.decode(ARGV[4]), last)
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
  return {redis.call('ZCARD', board) - count, above, rows, read('HMGET', shown, names)}
end

if verb == 'apply' then return apply() end
if verb == 'bare' then return bare() end
return top()
