-- The scores of all time. Stands behind bulk.lua and before spelling.lua.
--
-- A name's score is in the sorted set, or, on a board that keeps only its leaders there, in a hash, which takes half the
-- time and room; it is never in both, so a board can go over from the one to the other by small steps. Counts only grow:
-- who comes to stand above all that have ever left the leaders is one of them again at once.
--
-- board        zset    scores: all of them, or the leaders'
-- board:rest   hash    those of all others
-- board:floor  string  the highest that ever went to the rest: whoever has more is in the set

local MOST_LEAVING, MOST_BACK = 4096, 1024 -- names in one step; a skip list takes many times as long to get as to give

local function rest_key() return board .. ':rest' end
local function floor_key() return board .. ':floor' end
local function floor() return tonumber(redis.call('GET', floor_key()) or 0) end

-- Whether some names are of the rest: a hash without a floor is somebody else's.
local function has_rest() return redis.call('HLEN', rest_key()) > 0 and redis.call('GET', floor_key()) ~= false end

-- The scores of names, false for one that has none; and the names of them that are of the rest, name -> true.
local function scores_of(names)
  local scores, places, asked, of_rest = read('ZMSCORE', board, names), {}, {}, {}
  if not has_rest() then return scores, of_rest end
  for i, name in ipairs(names) do
    if not scores[i] then places[#places + 1], asked[#asked + 1] = i, name end
  end
  for at, score in ipairs(read('HMGET', rest_key(), asked)) do
    if score then scores[places[at]], of_rest[asked[at]] = score, true end
  end
  return scores, of_rest
end

-- Write what names have now that `counts` are added to the scores that they had, each into its place.
local function write_scores(counts, scores, of_rest, only_leaders)
  if not only_leaders and not next(of_rest) then return write('ZADD', board, summed(counts, scores)) end
  local least, leading, others, risen = only_leaders and floor() or 0, {}, {}, {}
  for i, name in ipairs(listed(counts)) do
    local score = (scores[i] and tonumber(scores[i]) or 0) + counts[name]
    if score > least or (scores[i] and not of_rest[name]) then
      leading[#leading + 1], leading[#leading + 2] = score, name
      if of_rest[name] then risen[#risen + 1] = name end
    else
      others[#others + 1], others[#others + 2] = name, score
    end
  end
  write('ZADD', board, leading)
  write('HSET', rest_key(), others)
  write('HDEL', rest_key(), risen)
end

-- Take one off a name's score. Answers what it has left; with nothing left it is not on the board any more.
local function take_one(name)
  local score = redis.call('ZSCORE', board, name)
  local of_rest = not score and has_rest() and redis.call('HGET', rest_key(), name)
  local left = tonumber(score or of_rest or 0) - 1
  if left > 0 then
    if of_rest then redis.call('HSET', rest_key(), name, left) else redis.call('ZADD', board, left, name) end
  else
    redis.call('ZREM', board, name)
    if of_rest then redis.call('HDEL', rest_key(), name) end
  end
  return left
end

-- How many names of a set are on its pages, and the score that these have at least: where there is a rest, who is below the
-- floor may stand below others that are of it.
local function ranked(set)
  local least = set == board and has_rest() and floor() or nil
  return least and redis.call('ZCOUNT', set, least, '+inf') or redis.call('ZCARD', set), least
end

local function let_leave(number)
  local lowest = redis.call('ZRANGE', board, 0, number - 1, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', board, 0, number - 1)
  write('HSET', rest_key(), lowest)
  if tonumber(lowest[#lowest]) >= floor() then redis.call('SET', floor_key(), lowest[#lowest]) end
end

local function let_back()
  local some, words, names = redis.call('HRANDFIELD', rest_key(), MOST_BACK, 'WITHVALUES'), {}, {}
  for i = 1, #some, 2 do
    if tonumber(some[i + 1]) then -- which what somebody else has put there need not be
      words[#words + 1], words[#words + 2], names[#names + 1] = some[i + 1], some[i], some[i]
    end
  end
  write('ZADD', board, words)
  write('HDEL', rest_key(), names)
  if redis.call('HLEN', rest_key()) == 0 then redis.call('UNLINK', floor_key()) end
end

-- Let the lowest go to the rest where there are more than twice as many as `leaders`. Let some of the rest come back where all
-- names are to be leaders, 0, or, since somebody has taken names away, there are too few on the pages.
local function settle(leaders)
  local excess = redis.call('ZCARD', board) - leaders
  if leaders > 0 and excess > leaders then
    let_leave(math.min(excess, MOST_LEAVING))
  elseif has_rest() and (leaders == 0 or ranked(board) < leaders) then
    let_back()
  end
end
