-- One board. Every change of its scores begins here; bulk.lua, spelling.lua and windows.lua stand before it.
--
-- apply  KEYS: board, shown, seen, what it has applied, the stream's hash.
--        ARGV: verb, stream, session, first, last, now, kept, names.
-- bare   KEYS: board, shown, seen, the lease for bare names.  ARGV: verb, holder, now, kept, names.
-- age    KEYS: board.                                         ARGV: see windows.lua.
-- top    KEYS: board, shown.  ARGV: verb, now, which scores, hidden names as JSON, offset, limit.
-- near   KEYS: board, shown.  ARGV: verb, now, which scores, hidden names as JSON, name, how many around it.
-- reset  KEYS: all keys of the board that do not depend on its windows.
--
-- `names` are three arguments of JSON: [[time, {name: how many}]...], [[name, its spelling, how many]...] for all that
-- are spelled otherwise, {name: how it is to be shown}. `kept` is {"windows": [[name, width, buckets]...], "half_life_s":
-- seconds or 0}; "which scores" is one of those windows, or {"half_life_s": seconds}, or null for those of all time.

-- Add names, which stand in ARGV from `at` on. All keys are read before any is written, so that one of another type
-- ends the script before it has changed anything. Answers how many windows a clock that went back has cost.
local function add(now, kept, at)
  local groups, spelled, displays = cjson.decode(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local counts, to_shown, to_seen = total(groups), {}, {}
  local names = listed(counts)
  local scores = read('ZMSCORE', board, names)
  if spelled ~= '' then to_shown, to_seen = spell(names, counts, scores, cjson.decode(spelled)) end
  if displays ~= '{}' then
    redis.call('HLEN', shown)
    for name, display in pairs(cjson.decode(displays)) do
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, display
    end
  end
  local words = {}
  for i, name in ipairs(names) do
    words[2 * i - 1], words[2 * i] = (scores[i] and tonumber(scores[i]) or 0) + counts[name], name
  end
  local writes, cleared = plan(groups, now, kept)
  write('ZADD', board, words)
  write('HSET', seen, to_seen)
  write('HSET', shown, to_shown)
  for _, carry_out in ipairs(writes) do carry_out() end
  return cleared
end

-- Add the names of batches first..last and note in the same step that they are in. A refusal changes nothing.
local function apply()
  local name, session, first, last = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
  local state = redis.call('HMGET', KEYS[5], 'owner', 'seq')
  local applied = tonumber(redis.call('HGET', KEYS[4], name) or -1)
  if state[1] ~= session then return {'fenced', applied} end -- guard
  if last > tonumber(state[2] or 0) then return {'ahead', applied} end -- guard
  if first ~= applied + 1 then return {'out of step', applied} end -- guard
  local cleared = add(tonumber(ARGV[6]), ARGV[7], 8)
  redis.call('HSET', KEYS[4], name, last)
  return {'applied', cleared}
end

-- Add names that came outside of any batch, at most once: only while this instance holds the lease. Answers nil otherwise.
local function bare()
  if redis.call('GET', KEYS[4]) ~= ARGV[2] then return false end
  return add(tonumber(ARGV[3]), ARGV[4], 5)
end

-- Which scores are asked for: their key, what each is to be multiplied by, and whether time must pass for them first.
local function chosen()
  local now, which = tonumber(ARGV[2]), cjson.decode(ARGV[3])
  if type(which) ~= 'table' then return board, 1, false end
  if which.half_life_s then
    local landmark, afresh = trending_state(now, which.half_life_s)
    return board .. ':trending', landmark and 2 ^ ((landmark - now) / which.half_life_s) or 1, afresh
  end
  local first, unfinished = span(which, now)
  local oldest, from = at_end(which, 'ZRANGE'), redis.call('GET', key_of('from', which))
  return key_of('window', which), 1, (oldest and oldest < first) or (from and tonumber(from) > unfinished)
end

-- Find the hidden names that are in a set, name -> score, how many these are, and in ascending order the places of those
-- that may stand above the end of a page: looking a place up costs ten times as much as a score.
local function hidden(set, names, page_end)
  local scores, count, places = {}, 0, {}
  for i, score in ipairs(read('ZMSCORE', set, names)) do
    if score then scores[names[i]], count = tonumber(score), count + 1 end
  end
  if count > 0 then
    local last = redis.call('ZREVRANGE', set, page_end + count, page_end + count, 'WITHSCORES')[2]
    for name, score in pairs(scores) do
      if not last or score >= tonumber(last) then places[#places + 1] = redis.call('ZREVRANK', set, name) end
    end
    table.sort(places)
  end
  return scores, count, places
end

-- Read one page, as if the hidden names were not there: how many names there are, the place of the page's first row, how
-- many stand above that, the rows, and how they are shown.
local function page(set, hide, first, limit)
  local offset, last = first, first + limit - 1
  local without, count, places = hidden(set, hide, last)
  for _, place in ipairs(places) do
    if place <= first then first = first + 1 end
    if place <= last then last = last + 1 end
  end
  local found = limit > 0 and redis.call('ZREVRANGE', set, first, last, 'WITHSCORES') or {}
  local rows, names = {}, {}
  for i = 1, #found, 2 do
    if not without[found[i]] then
      rows[#rows + 1], rows[#rows + 2], names[#names + 1] = found[i], found[i + 1], found[i]
    end
  end
  local above = #rows > 0 and redis.call('ZCOUNT', set, '(' .. rows[2], '+inf') or 0
  for _, score in pairs(without) do
    if #rows > 0 and score > tonumber(rows[2]) then above = above - 1 end
  end
  return {redis.call('ZCARD', set) - count, offset, above, rows, read('HMGET', shown, names)}
end

local function answer(found, factor, stale)
  found[6], found[7] = string.format('%.17g', factor), stale and 1 or 0
  return found
end

local function top()
  local set, factor, stale = chosen()
  return answer(page(set, cjson.decode(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])), factor, stale)
end

-- Read the rows around a name, as many on each side of it; none where it is not there, or hidden.
local function near()
  local set, factor, stale = chosen()
  local hide, name, around = cjson.decode(ARGV[4]), ARGV[5], tonumber(ARGV[6])
  local place = redis.call('ZREVRANK', set, name)
  local without, _, places = hidden(set, hide, place or 0)
  if not place or without[name] then return answer(page(set, hide, 0, 0), factor, stale) end
  local above = 0
  for _, other in ipairs(places) do
    if other < place then above = above + 1 end
  end
  local first = math.max(place - above - around, 0)
  return answer(page(set, hide, first, place - above + around - first + 1), factor, stale)
end

local function reset()
  local kept = redis.call('GET', board .. ':windows')
  for _, window in ipairs(kept and cjson.decode(kept).windows or {}) do
    forget(window)
    redis.call('UNLINK', key_of('from', window))
  end
  forget_trending()
  return redis.call('UNLINK', board .. ':windows', unpack(KEYS))
end

local verbs = {apply = apply, bare = bare, age = age, top = top, near = near, reset = reset}
return verbs[verb]()
