-- One board. Every change of its scores begins here; bulk.lua, leaders.lua, spelling.lua, entries.lua, windows.lua and
-- pages.lua stand before it.
--
-- apply  KEYS: board, shown, seen, what it has applied, the stream's hash.
--        ARGV: verb, stream, session, first, last, now, kept, names.
-- bare   KEYS: board, shown, seen, the lease for bare names.  ARGV: verb, holder, now, kept, names.
-- age    KEYS: board, or board and the lease of whose clock it is.
--        ARGV: verb, now, kept, hidden, the cursor that the last step answered, how many at most, holder.
-- read   KEYS: board, shown.  ARGV: verb, now, hidden, pages.
-- reset  KEYS: board, shown, seen.
-- copy   KEYS: board, shown, seen, what it has applied, four others.  ARGV: verb, for how many seconds.
-- load   KEYS: three others.     ARGV: verb, for how many seconds, names.
-- replace  KEYS: of each board board, shown, seen, three others.
--        ARGV: verb, of each board how much is in each of these, what its scores can lack.
--
-- `names` are three arguments of JSON: [[time, {name: how many}]...], or, where authors or posts matter,
-- {"entries": ..., "gone": ...}, see entries.lua; [[name, its spelling, how many]...] for all that are spelled otherwise, or
-- ''; {name: how it is to be shown}. `kept` is {"windows": [[name, width, buckets]...], "half_life_s", "once_s", "forget_s",
-- "max_members", "leaders": each 0 for none}. What a score can lack because its name was let go before stands in board:lacking.
-- `hidden` is names as JSON. `pages` is [[scores, the history's window or null, offset or name, how many rows, or how many on
-- each side of the name]...]; `scores` is one of the windows, or ["trending", half-life], or ["all"].

local MOST_AT_ONCE = 4096 -- names let go in one step besides as many as have come in it

-- Let the lowest names go where there are more than `most` and an eighth, after so many that came: rarely, for each time the
-- bound on what a name can lack grows by the highest score that went. Answers the names.
local function trim_set(kind, set, most, came)
  local excess = redis.call('ZCARD', set) - most
  if excess <= math.min(most / 8, MOST_AT_ONCE) then return {} end
  local last = math.min(excess, MOST_AT_ONCE + came) - 1
  local names, found = {}, redis.call('ZRANGE', set, 0, last, 'WITHSCORES')
  for i = 1, #found, 2 do names[#names + 1] = found[i] end
  redis.call('ZREMRANGEBYRANK', set, 0, last)
  local lacking = tonumber(redis.call('HGET', board .. ':lacking', kind) or 0)
  redis.call('HSET', board .. ':lacking', kind, lacking + tonumber(found[#found]))
  return names
end

local function trim(most, came)
  local gone = trim_set('all', board, most, came)
  write('HDEL', shown, gone)
  write('HDEL', seen, gone)
  trim_set('trending', board .. ':trending', most, came)
  trim_set('trending:next', board .. ':trending:next', most, came)
end

-- Take one of each name that a post has added away.
local function subtract_post(post, from_windows)
  local time, words, step = post[1], post[2], post[4]
  for i = 1, #words, 2 do
    local name = words[i]
    if take_one(name) > 0 then
      unspell(name, words[i + 1])
    else
      redis.call('HDEL', shown, name)
      redis.call('HDEL', seen, name)
    end
    from_windows(name, time, step)
  end
end

-- Read the names that stand in ARGV from `at` on: groups, what of them is spelled otherwise, what is to be taken away, and
-- what writes down in a step what of it is to be remembered.
local function read_names(stream, kept, at, now)
  local names, spelled = cjson.decode(ARGV[at]), ARGV[at + 1]
  if names.entries then
    return chosen_names(stream, names.entries, names.gone, kept, now)
  end
  return names, spelled ~= '' and cjson.decode(spelled), {}, function() end
end

-- Add names of a stream, nil for none, which stand in ARGV from `at` on. All keys are read before any is written, so that
-- one of another type ends the script before it has changed anything. Answers how many windows a clock that went back has
-- cost.
local function add(stream, now, kept_text, at)
  local kept, displays = cjson.decode(kept_text), ARGV[at + 2]
  local groups, spelled, undone, write_memory = read_names(stream, kept, at, now)
  local counts, to_shown, to_seen = total(groups), {}, {}
  local names = listed(counts)
  for _, key in ipairs({shown, seen, board .. ':lacking'}) do redis.call('HLEN', key) end
  local scores, of_rest = scores_of(names)
  if spelled then to_shown, to_seen = spell(names, counts, scores, spelled) end
  if displays ~= '{}' then
    for name, display in pairs(cjson.decode(displays)) do
      if counts[name] then to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, display end
    end
  end
  local writes, cleared = plan(groups, now, kept, kept_text)
  write_scores(counts, scores, of_rest, kept.leaders > 0)
  write('HSET', seen, to_seen)
  write('HSET', shown, to_shown)
  for _, carry_out in ipairs(writes) do carry_out() end
  local step = kept.forget_s > 0 and next_step()
  local from_windows = #undone > 0 and subtractor(kept, now)
  for _, post in ipairs(undone) do
    post[4] = post[4] or step
    subtract_post(post, from_windows)
  end
  write_memory(step)
  settle(kept.leaders)
  if kept.max_members > 0 then trim(kept.max_members, #names) end
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
  local cleared = add(name, tonumber(ARGV[6]), ARGV[7], 8)
  redis.call('HSET', KEYS[4], name, last)
  return {'applied', cleared}
end

-- Add names that came outside of any batch, at most once: only while this instance holds the lease. Answers nil otherwise.
local function bare()
  if redis.call('GET', KEYS[4]) ~= ARGV[2] then return false end
  return add(nil, tonumber(ARGV[3]), ARGV[4], 5)
end

-- One small step of what time does: take names out of windows, sweep, note ranks. Answers {whether there may be more to do,
-- the next step's cursor (a window and where in it), how much a clock that went back has cost}; nil where the lease is
-- another's: a process that was asleep does not know.
local function age()
  if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[7] then return false end
  local now, kept, hide = tonumber(ARGV[2]), cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
  local limit, cleared, cost, cursor = tonumber(ARGV[6]), 0, 0, nil
  local at, place = ARGV[5]:match('^(.*):(.*)$')
  for _, window in ipairs(kept.windows) do
    limit, cursor, cost = age_window(window, now, window[1] == at and place or '0', limit)
    cleared = cleared + cost
    if limit <= 0 then return {1, window[1] .. ':' .. cursor, cleared} end
  end
  if kept.half_life_s > 0 then
    limit, cost = age_trending(now, kept.half_life_s, limit)
    cleared = cleared + cost
    if limit <= 0 then return {1, ':0', cleared} end
    note_ranks('trending', board .. ':trending', MINUTE, hide, now)
  end
  for _, window in ipairs(kept.windows) do note_ranks(window[1], key_of('window', window), window[2], hide, now) end
  note_ranks('all', board, MINUTE, hide, now)
  return {0, ':0', cleared}
end

-- What is asked for: the scores' key, their buckets' width, what each is to be multiplied by, and whether time must pass
-- for them first.
local function chosen(scores, now)
  if scores[1] == 'all' then return board, MINUTE, 1, false end
  if scores[1] == 'trending' then
    local landmark, afresh = trending_state(now, scores[2])
    return board .. ':trending', MINUTE, landmark and 2 ^ ((landmark - now) / scores[2]) or 1, landmark and afresh
  end
  local first, unfinished = span(scores, now)
  local oldest, from = at_end(scores, 'ZRANGE'), tonumber(redis.call('GET', key_of('from', scores)) or nil)
  local stale = from and (from > unfinished or (oldest and oldest < math.max(first, from)))
  return key_of('window', scores), scores[2], 1, stale
end

-- Where a page begins, and how many rows it has: from an offset on, or around a name, with as many on each side of it; none
-- where it is not there, or hidden.
local function located(at, count, set, hide)
  if type(at) == 'number' then return at, count end
  local place = place_of(set, hide, at)
  if not place then return 0, 0 end
  local first = math.max(place - count, 0)
  return first, place + count - first + 1
end

-- Answers {whether time must pass first, how many names there are, how many of them have a rank, the place of the first row,
-- how many stand above it, names and scores by turns, whether these have no rank, how they are shown, what scores are to be
-- multiplied by, whether ranks before are known, these, counts by bucket, how much a score may lack at most}.
local function read_page(now, hide, scores, window, at, count)
  local set, width, factor, stale = chosen(scores, now)
  local first, limit = located(at, count, set, hide)
  local all, with_rank, above, rows = page(set, hide, first, limit)
  local names, is_below = {}, false
  if type(at) == 'string' and limit == 0 then above, rows, is_below = beside(set, hide, at) end
  for i = 1, #rows, 2 do names[#names + 1] = rows[i] end
  local before = ranks_before(scores[1], width, names, now)
  return {
    stale and 1 or 0, all, with_rank, first, above, rows, is_below and 1 or 0, read('HMGET', shown, names),
    string.format('%.17g', factor), before and 1 or 0, before or {}, type(window) == 'table' and history(window, names, now) or {},
    redis.call('HGET', board .. ':lacking', scores[1]) or '0',
  }
end

local function read_pages()
  local now, hide, pages = tonumber(ARGV[2]), cjson.decode(ARGV[3]), {}
  for i, asked in ipairs(cjson.decode(ARGV[4])) do pages[i] = read_page(now, hide, unpack(asked)) end
  return pages
end

-- Read whatever has a say in a reset, so that a key of another type ends the script before it has changed anything. Answers
-- the windows that are kept.
local function look_at_all()
  redis.call('ZCARD', board)
  floor()
  for _, kind in ipairs({':rest', ':authors', ':posts', ':begun', ':lacking'}) do redis.call('HLEN', board .. kind) end
  local windows = cjson.decode(redis.call('GET', board .. ':windows') or '{"windows":[]}').windows
  for _, window in ipairs(windows) do redis.call('ZCARD', key_of('buckets', window)) end
  return windows
end

-- Delete everything but what has been applied, which goes on being true of what comes.
local function reset()
  for _, window in ipairs(look_at_all()) do drop_window(window) end
  clear_trending()
  drop_generations('authors')
  drop_generations('posts')
  redis.call('UNLINK', rest_key(), floor_key(), board .. ':ranks:all', board .. ':ranks_before:all')
  redis.call('UNLINK', board .. ':windows', board .. ':lacking', board .. ':begun')
  return redis.call('UNLINK', board, shown, seen)
end

-- Copy what a board is into four keys that live for so many seconds. Answers how many names it has, what its scores can
-- lack, what it has applied.
local function copy()
  for i, key in ipairs({board, shown, seen, has_rest() and rest_key() or nil}) do
    redis.call('COPY', key, KEYS[4 + i])
    redis.call('EXPIRE', KEYS[4 + i], ARGV[2])
  end
  local lacking = redis.call('HGET', board .. ':lacking', 'all') or '0'
  return {redis.call('ZCARD', KEYS[5]) + redis.call('HLEN', KEYS[8]), lacking, redis.call('HGETALL', KEYS[4])}
end

-- Write names, [[name, score, how it is shown or '', its spellings as JSON or '']...], into three keys that live for so many
-- seconds.
local function load()
  local scores, displays, spellings = {}, {}, {}
  for _, one in ipairs(cjson.decode(ARGV[3])) do
    scores[#scores + 1], scores[#scores + 2] = one[2], one[1]
    if one[3] ~= '' then displays[#displays + 1], displays[#displays + 2] = one[1], one[3] end
    if one[4] ~= '' then spellings[#spellings + 1], spellings[#spellings + 2] = one[1], one[4] end
  end
  write('ZADD', board, scores)
  write('HSET', shown, displays)
  write('HSET', seen, spellings)
  for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
end

-- Put what three keys each hold in the boards' place, all or none. Answers 0 where they do not hold what they should, and
-- nothing was changed.
local function replace()
  local boards = #KEYS / 6
  for place = 0, boards - 1 do
    local scores, displays, spellings = unpack(KEYS, 6 * place + 4, 6 * place + 6)
    local there = {redis.call('ZCARD', scores), redis.call('HLEN', displays), redis.call('HLEN', spellings)}
    for i = 1, 3 do
      if there[i] ~= tonumber(ARGV[4 * place + 1 + i]) then return 0 end
    end
    board = KEYS[6 * place + 1]
    look_at_all()
  end
  for place = 0, boards - 1 do
    board, shown, seen = unpack(KEYS, 6 * place + 1, 6 * place + 3)
    reset()
    for i = 1, 3 do
      local copied = KEYS[6 * place + 3 + i]
      if redis.call('EXISTS', copied) == 1 then
        redis.call('RENAME', copied, KEYS[6 * place + i])
        redis.call('PERSIST', KEYS[6 * place + i])
      end
    end
    local lacking = ARGV[4 * place + 5]
    if tonumber(lacking) > 0 then redis.call('HSET', board .. ':lacking', 'all', lacking) end
  end
  return 1
end

local verbs = {
  apply = apply, bare = bare, age = age, read = read_pages, reset = reset, copy = copy, load = load, replace = replace,
}
return verbs[verb]()
