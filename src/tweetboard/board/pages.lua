-- Reading a board: pages of it, what came when, and how ranks have changed. Stands behind leaders.lua and windows.lua and before
-- scoreboard.lua.
--
-- board:ranks:NAME         hash  the ranks of the first names when the unfinished bucket began; under '' when that was, and
--                                under ' ' their number where the last of them shares its rank with others
-- board:ranks_before:NAME  hash  the same, a bucket before

local RANKED = 1000 -- as many as one page can have
local MINUTE = 60 -- the bucket of scores that are in none

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

-- How many names a set has, and how many of these have a rank, as if the hidden ones, name -> score, were not there; with
-- them `with_rank` have one, those of the score `least` or more.
local function totals(set, hide, without, count, with_rank, least)
  for _, score in pairs(without) do
    if score >= (least or -math.huge) then with_rank = with_rank - 1 end
  end
  if not least then return with_rank, with_rank end
  local all = redis.call('ZCARD', set) - count + redis.call('HLEN', rest_key())
  for _, score in ipairs(read('HMGET', rest_key(), hide)) do
    if score then all = all - 1 end
  end
  return all, with_rank
end

-- How many names have more than a score, without the hidden ones.
local function count_above(set, score, without)
  local above = redis.call('ZCOUNT', set, '(' .. score, '+inf')
  for _, other in pairs(without) do
    if other > tonumber(score) then above = above - 1 end
  end
  return above
end

-- Read one page, as if the names to `hide` were not there: how many names there are, how many of them have a rank, how many
-- stand above its first row, and its names and scores by turns.
local function page(set, hide, first, limit)
  local last = first + limit - 1
  local without, count, places = hidden(set, hide, last)
  for _, place in ipairs(places) do
    if place <= first then first = first + 1 end
    if place <= last then last = last + 1 end
  end
  local with_rank, least = ranked(set)
  last = math.min(last, with_rank - 1)
  local rows = {}
  local found = first <= last and redis.call('ZREVRANGE', set, first, last, 'WITHSCORES') or {}
  for i = 1, #found, 2 do
    if not without[found[i]] then rows[#rows + 1], rows[#rows + 2] = found[i], found[i + 1] end
  end
  local all, shown_with_rank = totals(set, hide, without, count, with_rank, least)
  return all, shown_with_rank, #rows > 0 and count_above(set, rows[2], without) or 0, rows
end

-- Find where a name stands as if the names to `hide` were not there; nil where it does not, or has no rank.
local function place_of(set, hide, name)
  local place = redis.call('ZREVRANK', set, name)
  local without, _, places = hidden(set, hide, place or 0)
  if not place or without[name] or place >= ranked(set) then return nil end
  local above = 0
  for _, other in ipairs(places) do
    if other < place then above = above + 1 end
  end
  return place - above
end

-- Read the score of a name that stands on no page: how many have more, it and its score, and whether others that are of
-- the rest may have more too; nothing of a name that is not there, or hidden.
local function beside(set, hide, name)
  local _, least = ranked(set)
  local score = least and (redis.call('HGET', rest_key(), name) or redis.call('ZSCORE', set, name))
  for _, other in ipairs(hide) do
    if other == name then score = nil end
  end
  if not score then return 0, {}, false end
  local without = hidden(set, hide, -1)
  return count_above(set, score, without), {name, score}, tonumber(score) < least
end

-- Names' counts in each bucket of a window, the oldest first: a list for each bucket.
local function history(window, names, now)
  local first, unfinished = span(window, now)
  local found = {}
  for start = first, unfinished, window[2] do
    found[#found + 1] = read('HMGET', bucket_key(window, start), names)
  end
  -- What came before a clock went back a little counts as of now.
  local ahead = '(' .. string.format('%.0f', unfinished)
  for _, start in ipairs(redis.call('ZRANGE', key_of('buckets', window), ahead, '+inf', 'BYSCORE')) do
    for i, count in ipairs(read('HMGET', bucket_key(window, tonumber(start)), names)) do
      if count then found[#found][i] = tostring(tonumber(found[#found][i] or 0) + tonumber(count)) end
    end
  end
  return found
end

-- Note the ranks of scores at the first moment of each of their buckets.
local function note_ranks(kind, set, width, hide, now)
  local key, key_before = board .. ':ranks:' .. kind, board .. ':ranks_before:' .. kind
  local start, noted = now - now % width, tonumber(redis.call('HGET', key, '') or nil)
  if noted == start then return end
  if noted == start - width then
    redis.call('RENAME', key, key_before)
  else
    redis.call('UNLINK', key, key_before)
  end
  local words, rank, previous = {'', start}, 1, nil
  local _, _, _, rows = page(set, hide, 0, RANKED + 1)
  if #rows > 2 * RANKED then
    if rows[#rows] == rows[#rows - 2] then words[3], words[4] = ' ', RANKED end
    rows[#rows], rows[#rows - 1] = nil, nil
  end
  for i = 1, #rows, 2 do
    if rows[i + 1] ~= previous then rank, previous = (i + 1) / 2, rows[i + 1] end
    words[#words + 1], words[#words + 2] = rows[i], rank
  end
  write('HSET', key, words)
end

-- The ranks that names had a bucket before the unfinished one began; nil where that was not noted. Of a name that may have
-- shared the last of them that is ''.
local function ranks_before(kind, width, names, now)
  local key = board .. ':ranks_before:' .. kind
  local noted = tonumber(redis.call('HGET', key, '') or nil)
  if not noted or noted > now or noted < now - now % width - 2 * width then return nil end
  if redis.call('HLEN', key) == 1 then return nil end -- of a board on which nobody was, all would be new
  local ranks = read('HMGET', key, names)
  if redis.call('HEXISTS', key, ' ') == 1 then
    for i = 1, #names do ranks[i] = ranks[i] or '' end
  end
  return ranks
end
