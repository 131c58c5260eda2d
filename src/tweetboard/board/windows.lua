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
-- board:trending:next      zset    the same from a later landmark on, which takes the other's place in time
-- board:from:trending      hash    `landmark`, when a post would count 1; `half_life`; `latest`, the last clock; `next`, the
--                                  later one's landmark, and `begun`, since when there is one
-- board:windows            string  what is kept of the above, as it was configured at the last apply
-- board:begun              hash    where posts can be taken away again: under '' how many steps have added such, and for what
--                                  has begun anew since (NAME, trending, trending:next) how many had before

-- A landmark lies so many half-lives ahead when it is chosen, that what a post counts can grow from almost nothing to
-- almost all that a number can hold. For the last of that time posts count from the next landmark on too, for so long that
-- what came before has faded beyond what a number can tell: then that one's set takes the place, in no time.
local AHEAD, DOUBLED, FADED = 1000, 800, 64
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

local function next_step() return redis.call('HINCRBY', board .. ':begun', '', 1) end

-- Note that of what came so far nothing is in some scores.
local function note_begun(kind)
  local steps = redis.call('HGET', board .. ':begun', '')
  if steps then redis.call('HSET', board .. ':begun', kind, steps) end
end

local function clear_window(window)
  note_begun(window[1])
  local keys = {key_of('window', window), key_of('buckets', window)}
  for _, start in ipairs(redis.call('ZRANGE', key_of('buckets', window), 0, -1)) do
    keys[#keys + 1] = bucket_key(window, tonumber(start))
  end
  in_slices(keys, function(first, last) redis.call('UNLINK', unpack(keys, first, last)) end)
end

local function clear_trending()
  local ranks, before = board .. ':ranks:trending', board .. ':ranks_before:trending'
  redis.call('UNLINK', board .. ':trending', board .. ':trending:next', board .. ':from:trending', ranks, before)
  redis.call('HDEL', board .. ':lacking', 'trending', 'trending:next')
  note_begun('trending')
end

-- Delete a window that is not kept any more.
local function drop_window(window)
  clear_window(window)
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
  local nothing = #kept.windows == 0 and kept.half_life_s == 0
  if before == text or (not before and nothing) then return {} end
  local gone = {}
  for _, window in ipairs(before and cjson.decode(before).windows or {}) do gone[window[1]] = window end
  for _, window in ipairs(kept.windows) do gone[window[1]] = nil end
  return {function()
    for _, window in pairs(gone) do drop_window(window) end
    if kept.half_life_s == 0 then clear_trending() end
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
  if begin ~= from then
    writes[1] = function()
      if afresh then clear_window(window) end
      set_from(window, begin)
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

-- How trending scores stand: their landmark, nil where there is none; whether they begin anew, as with another half-life,
-- after a clock went back, or such a while that nothing of them is left; whether it did; the next landmark, and since when
-- there is one, chosen now where it is time.
local function trending_state(now, half_life)
  local state = redis.call('HMGET', board .. ':from:trending', 'landmark', 'latest', 'next', 'begun', 'half_life')
  local landmark, latest = tonumber(state[1] or nil), tonumber(state[2] or nil)
  local next_one, begun = tonumber(state[3] or nil), tonumber(state[4] or nil)
  local went_back = landmark and now < latest - half_life
  local afresh = not landmark or went_back or now - latest > FADED * half_life or tonumber(state[5] or nil) ~= half_life
  if not afresh and not next_one and now - landmark > DOUBLED * half_life then
    next_one, begun = now + AHEAD * half_life, now
  end
  return landmark, afresh, went_back, next_one, begun
end

local function keep_trending_state(now, half_life, landmark, next_one, begun)
  local key = board .. ':from:trending'
  redis.call('HSET', key, 'landmark', landmark, 'latest', now, 'half_life', half_life)
  if next_one then
    if redis.call('HSET', key, 'next', next_one, 'begun', begun) > 0 then note_begun('trending:next') end
  else
    redis.call('HDEL', key, 'next', 'begun')
  end
end

-- What names come to, each post by its age, from a landmark on.
local function weighted(groups, now, half_life, landmark)
  local sums = {}
  for _, group in ipairs(groups) do
    local age = math.max(now - group[1], 0) / half_life
    if age < FADED then
      local weight = 2 ^ ((now - landmark) / half_life - age)
      for name, count in pairs(group[2]) do sums[name] = (sums[name] or 0) + count * weight end
    end
  end
  return sums
end

local function plan_trending(groups, now, half_life)
  local landmark, afresh, went_back, next_one, begun = trending_state(now, half_life)
  if afresh then landmark, next_one = now + AHEAD * half_life, nil end
  local key, next_key = board .. ':trending', board .. ':trending:next'
  local words, next_words = sums_in_set(key, weighted(groups, now, half_life, landmark), afresh), {}
  if next_one then next_words = sums_in_set(next_key, weighted(groups, now, half_life, next_one), false) end
  return {function()
    if afresh then clear_trending() end
    write('ZADD', key, words)
    write('ZADD', next_key, next_words)
    keep_trending_state(now, half_life, landmark, next_one, begun)
  end}, went_back and 1 or 0
end

local function plan(groups, now, kept, text)
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
local function drain_bucket(window, start, cursor, limit)
  local bucket, running = bucket_key(window, start), key_of('window', window)
  -- From the first name on: with a clock that goes back meanwhile, what is left of it must not be live again.
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
  local begin = math.max(from, first) -- what has begun to leave leaves, also when the clock goes back a little meanwhile
  local newest = at_end(window, 'ZREVRANGE')
  if went_back or (newest and newest < begin) then
    clear_window(window)
    set_from(window, went_back and first or begin)
    return limit, '0', went_back and 1 or 0
  end
  local oldest = at_end(window, 'ZRANGE')
  while oldest and oldest < begin do
    if limit <= 0 then return 0, cursor, 0 end
    local taken
    taken, cursor = drain_bucket(window, oldest, cursor, limit)
    limit = limit - taken - 1
    oldest = at_end(window, 'ZRANGE')
  end
  if from < first then set_from(window, first) end
  return limit, '0', 0
end

-- Sweep what has faded from a set of trending scores. Answers how many are left of the limit.
local function sweep(key, exponent, limit)
  local faded = redis.call('ZCOUNT', key, '-inf', '(' .. string.format('%.17g', 2 ^ (exponent - SWEPT)))
  if faded > 0 then redis.call('ZREMRANGEBYRANK', key, 0, math.min(faded, limit) - 1) end
  return math.max(limit - faded, 0)
end

-- Sweep, and let the next landmark take over in time. Answers how many are left of the limit, and how much a clock that went
-- back has cost.
local function age_trending(now, half_life, limit)
  local key, next_key, lacking = board .. ':trending', board .. ':trending:next', board .. ':lacking'
  local landmark, afresh, went_back, next_one, begun = trending_state(now, half_life)
  if not landmark then return limit, 0 end
  if afresh then
    clear_trending()
    return limit, went_back and 1 or 0
  end
  limit = sweep(key, (now - landmark) / half_life, limit)
  if next_one and limit > 0 then limit = sweep(next_key, (now - next_one) / half_life, limit) end
  if next_one and now - begun >= FADED * half_life then
    redis.call('UNLINK', key)
    if redis.call('EXISTS', next_key) == 1 then redis.call('RENAME', next_key, key) end
    local half = (landmark - next_one) / half_life / 2 -- the whole is less than the least number there is
    local before = tonumber(redis.call('HGET', lacking, 'trending') or 0) * 2 ^ half * 2 ^ half
    local since = tonumber(redis.call('HGET', lacking, 'trending:next') or 0)
    if before + since > 0 then redis.call('HSET', lacking, 'trending', before + since) end
    redis.call('HDEL', lacking, 'trending:next')
    local steps = redis.call('HGET', board .. ':begun', 'trending:next')
    if steps then redis.call('HSET', board .. ':begun', 'trending', steps) end
    landmark, next_one = next_one, nil
  end
  keep_trending_state(now, half_life, landmark, next_one, begun)
  return limit, 0
end

-- What takes one of a name that came at a time, in a step, out of the windows and the trending scores, where it is in them.
local function subtractor(kept, now)
  local begun, froms = {}, {}
  local all = redis.call('HGETALL', board .. ':begun')
  for i = 1, #all, 2 do begun[all[i]] = tonumber(all[i + 1]) end
  for _, window in ipairs(kept.windows) do froms[window[1]] = tonumber(redis.call('GET', key_of('from', window)) or nil) end

  local function from_window(window, name, time)
    local start = time - time % window[2]
    if start < (froms[window[1]] or start + 1) then return end -- what has begun to leave leaves with the others
    local bucket, running = bucket_key(window, start), key_of('window', window)
    if redis.call('TYPE', bucket).ok ~= 'hash' or tonumber(redis.call('HGET', bucket, name) or 0) <= 0 then return end
    if redis.call('HINCRBY', bucket, name, -1) <= 0 then redis.call('HDEL', bucket, name) end
    if tonumber(redis.call('ZINCRBY', running, -1, name)) <= 0 then redis.call('ZREM', running, name) end
  end

  local function from_trending(key, landmark, name, time)
    local score, weight = redis.call('ZSCORE', key, name), 2 ^ ((time - landmark) / kept.half_life_s)
    if score and tonumber(score) - weight > weight / 1000 then
      redis.call('ZADD', key, tonumber(score) - weight, name)
    elseif score then
      redis.call('ZREM', key, name) -- nothing but what rounding has left
    end
  end

  local landmark, next_one, _
  if kept.half_life_s > 0 then landmark, _, _, next_one = trending_state(now, kept.half_life_s) end
  return function(name, time, step)
    for _, window in ipairs(kept.windows) do
      if step > (begun[window[1]] or 0) then from_window(window, name, time) end
    end
    if landmark and step > (begun.trending or 0) then from_trending(board .. ':trending', landmark, name, time) end
    if next_one and step > (begun['trending:next'] or 0) then
      from_trending(board .. ':trending:next', next_one, name, time)
    end
  end
end
