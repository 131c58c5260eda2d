-- The sliding windows and the trending scores of one board. Stands behind bulk.lua and before scoreboard.lua, which makes
-- `board`, the board's key.
--
-- A window's running scores are always the sum of the buckets in its index: apply adds to both, and an old bucket is taken
-- out of both in small steps. It is given as {name, width of a bucket, how many buckets}. Times are whole seconds.
--
-- board:window:NAME        zset    the running scores
-- board:bucket:NAME:START  hash    what came in one bucket: a hash costs half of what a sorted set does, in time and room
-- board:buckets:NAME       zset    the index: the start of each bucket that there is
-- board:from:NAME          string  the first bucket that may still be added to; it only moves on
-- board:trending           zset    scores in which a post counts twice as much as one of a half-life before
-- board:from:trending      hash    `landmark`, when a post counted 1, and `latest`, the last clock
-- board:windows            string  what is kept of the above, as it was configured at the last apply

local REBASE = 64 -- half-lives after which the landmark moves on: scores are doubled or halved then, which is exact
local FARTHEST = 512 -- half-lives after which nothing is left of a score that a number could hold
local SWEPT = 10 -- half-lives after which a single post, a thousandth of one by now, is swept

local function key_of(kind, window) return board .. ':' .. kind .. ':' .. window[1] end
local function bucket_key(window, start) return string.format('%s:%.0f', key_of('bucket', window), start) end

-- The first live bucket of a window at this time, and the unfinished one.
local function span(window, now)
  local unfinished = now - now % window[2]
  return unfinished - (window[3] - 1) * window[2], unfinished
end

-- The first bucket in a window's index ('ZRANGE'), or the last ('ZREVRANGE'); nil where it is empty.
local function at_end(window, command)
  return tonumber(redis.call(command, key_of('buckets', window), 0, 0)[1])
end

local function set_from(window, start) redis.call('SET', key_of('from', window), string.format('%.0f', start)) end

local function forget(window)
  local keys = {key_of('window', window), key_of('buckets', window)}
  for _, start in ipairs(redis.call('ZRANGE', key_of('buckets', window), 0, -1)) do
    keys[#keys + 1] = bucket_key(window, tonumber(start))
  end
  in_slices(keys, function(first, last) redis.call('UNLINK', unpack(keys, first, last)) end)
end

local function forget_trending()
  local ranks, before = board .. ':ranks:trending', board .. ':ranks_before:trending'
  redis.call('UNLINK', board .. ':trending', board .. ':from:trending', ranks, before)
  redis.call('HDEL', board .. ':lacking', 'trending')
end

-- Delete a window that is not kept any more.
local function drop_window(window)
  forget(window)
  redis.call('UNLINK', key_of('from', window), key_of('ranks', window), key_of('ranks_before', window))
end

-- Add up groups {time, {name -> how many}} for which `start_of` answers the same: {that -> {name -> how many}}, without
-- those for which it answers nil. A table that nothing is added to is handed on as it is.
local function by_start(groups, start_of)
  local found, own = {}, {}
  for _, group in ipairs(groups) do
    local start = start_of(group[1])
    local sums = start and found[start]
    if start and not sums then
      found[start] = group[2]
    elseif start then
      if not own[start] then
        own[start] = {}
        for name, count in pairs(sums) do own[start][name] = count end
        found[start] = own[start]
      end
      for name, count in pairs(group[2]) do found[start][name] = (found[start][name] or 0) + count end
    end
  end
  return found
end

local function total(groups)
  return by_start(groups, function() return 0 end)[0] or {}
end

-- A plan reads, and answers with functions that write, so that a key of another type ends the script before it has
-- changed anything; and with how much a clock that went back has cost.

local function plan_settings(kept, text)
  local before = redis.call('GET', board .. ':windows')
  local nothing = #kept.windows == 0 and kept.half_life_s == 0 and (kept.once_s or 0) == 0
  if before == text or (not before and nothing) then return {} end
  local gone = {}
  for _, window in ipairs(before and cjson.decode(before).windows or {}) do gone[window[1]] = window end
  for _, window in ipairs(kept.windows) do gone[window[1]] = nil end
  return {function()
    for _, window in pairs(gone) do drop_window(window) end
    if before and cjson.decode(before).half_life_s ~= kept.half_life_s then forget_trending() end
    redis.call('SET', board .. ':windows', text)
  end}
end

local function plan_window(window, groups, now)
  local first, unfinished = span(window, now)
  local from = tonumber(redis.call('GET', key_of('from', window)) or nil)
  local went_back = from and from > unfinished
  local afresh = went_back or not from -- one that was not counted before begins empty
  local begin = afresh and first or math.max(from, first)
  local buckets, additions, writes = by_start(groups, function(time)
    local start = math.min(time - time % window[2], unfinished)
    return start >= begin and start
  end), {}, {}
  if afresh then
    writes[1] = function()
      forget(window)
      set_from(window, first)
    end
  end
  redis.call('ZCARD', key_of('buckets', window))
  for start, counts in pairs(buckets) do
    local words = sums_in_hash(bucket_key(window, start), counts, afresh)
    additions[#additions + 1] = {start, counts}
    writes[#writes + 1] = function()
      write('HSET', bucket_key(window, start), words)
      redis.call('ZADD', key_of('buckets', window), start, string.format('%.0f', start))
    end
  end
  local words = sums_in_set(key_of('window', window), total(additions), afresh)
  writes[#writes + 1] = function() write('ZADD', key_of('window', window), words) end
  return writes, went_back and 1 or 0
end

-- The landmark of the trending scores, and whether they have to begin anew, as after a clock went back; nil where none.
local function trending_state(now, half_life)
  local state = redis.call('HMGET', board .. ':from:trending', 'landmark', 'latest')
  local landmark, latest = tonumber(state[1] or nil), tonumber(state[2] or nil)
  local went_back = landmark and now < latest - half_life
  return landmark, went_back or (landmark and now - landmark > FARTHEST * half_life), went_back
end

local function plan_trending(groups, now, half_life)
  local landmark, afresh, went_back = trending_state(now, half_life)
  if not landmark or afresh then landmark, afresh = now, true end
  local weighted = {}
  for _, group in ipairs(groups) do
    local age = math.max(now - group[1], 0) / half_life
    if age < SWEPT then
      local weight = 2 ^ ((now - landmark) / half_life - age)
      for name, count in pairs(group[2]) do weighted[name] = (weighted[name] or 0) + count * weight end
    end
  end
  local words = sums_in_set(board .. ':trending', weighted, afresh)
  return {function()
    if afresh then forget_trending() end
    write('ZADD', board .. ':trending', words)
    redis.call('HSET', board .. ':from:trending', 'landmark', landmark, 'latest', now)
  end}, went_back and 1 or 0
end

local function plan(groups, now, text)
  local kept = cjson.decode(text)
  local writes, cleared = plan_settings(kept, text), 0
  local function take(more, cost)
    for _, one in ipairs(more) do writes[#writes + 1] = one end
    cleared = cleared + cost
  end
  for _, window in ipairs(kept.windows) do take(plan_window(window, groups, now)) end
  if kept.half_life_s > 0 then take(plan_trending(groups, now, kept.half_life_s)) end
  return writes, cleared
end

-- Take up to some `limit` names of a bucket out of a window. Answers how many these were, and where to go on.
local function take_away(window, start, cursor, limit)
  local bucket, running = bucket_key(window, start), key_of('window', window)
  local from = tonumber(redis.call('GET', key_of('from', window)) or 0)
  if from < start + window[2] then set_from(window, start + window[2]) end
  local reply, counts = redis.call('HSCAN', bucket, cursor, 'COUNT', limit), {}
  for i = 1, #reply[2], 2 do counts[reply[2][i]] = tonumber(reply[2][i + 1]) end
  local names, kept, gone = listed(counts), {}, {}
  for i, score in ipairs(read('ZMSCORE', running, names)) do
    local left = (score and tonumber(score) or 0) - counts[names[i]]
    if left > 0 then
      kept[#kept + 1], kept[#kept + 2] = left, names[i]
    else
      gone[#gone + 1] = names[i]
    end
  end
  write('ZADD', running, kept)
  write('ZREM', running, gone)
  write('HDEL', bucket, names)
  if redis.call('EXISTS', bucket) == 0 then
    redis.call('ZREM', key_of('buckets', window), string.format('%.0f', start))
    return #names, '0'
  end
  return #names, reply[1]
end

-- Let time pass for a window, up to some `limit` names of it. Answers how many are left of the limit, 0 where there may be
-- more to do, where to go on, and how much a clock that went back has cost.
local function age_window(window, now, cursor, limit)
  local first, unfinished = span(window, now)
  local from = tonumber(redis.call('GET', key_of('from', window)) or nil)
  if not from then return limit, '0', 0 end
  local went_back = from > unfinished
  local newest = at_end(window, 'ZREVRANGE')
  if went_back or (newest and newest < first) then
    forget(window)
    set_from(window, first)
    return limit, '0', went_back and 1 or 0
  end
  local oldest = at_end(window, 'ZRANGE')
  while oldest and oldest < first do
    if limit <= 0 then return 0, cursor, 0 end
    local taken
    taken, cursor = take_away(window, oldest, cursor, limit)
    limit = limit - taken - 1
    oldest = at_end(window, 'ZRANGE')
  end
  if from < first then set_from(window, first) end
  return limit, '0', 0
end

-- Sweep what has faded, and move the landmark on. Answers as `age_window` does.
local function age_trending(now, half_life, limit)
  local key, state = board .. ':trending', board .. ':from:trending'
  local landmark, afresh, went_back = trending_state(now, half_life)
  if not landmark then return limit, '0', 0 end
  if afresh then
    forget_trending()
    return limit, '0', went_back and 1 or 0
  end
  local since = (now - landmark) / half_life
  local faded = redis.call('ZCOUNT', key, '-inf', '(' .. string.format('%.17g', 2 ^ (since - SWEPT)))
  if faded > 0 then redis.call('ZREMRANGEBYRANK', key, 0, math.min(faded, limit) - 1) end
  if faded > limit then return 0, '0', 0 end
  if since > REBASE then
    local half_lives = math.floor(since)
    redis.call('ZUNIONSTORE', key, 1, key, 'WEIGHTS', string.format('%.17g', 2 ^ -half_lives))
    redis.call('HSET', state, 'landmark', landmark + half_lives * half_life)
    local lacking = redis.call('HGET', board .. ':lacking', 'trending')
    if lacking then redis.call('HSET', board .. ':lacking', 'trending', tonumber(lacking) * 2 ^ -half_lives) end
  end
  redis.call('HSET', state, 'latest', now)
  return limit - faded, '0', 0
end
