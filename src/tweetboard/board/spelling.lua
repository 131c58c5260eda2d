-- Which spelling of a name is shown: the one met most often. Stands behind bulk.lua and before scoreboard.lua, which makes
-- `shown`, a hash of how names are shown that are not shown as they stand on the board, and `seen`, one of how often each
-- spelling of a name was met, as JSON.

local MOST_SPELLINGS = 32 -- of one name; beyond that, what was met least is forgotten, but never what is shown

-- Forget spellings of a name where there are too many.
local function bound_spellings(all, best)
  local counts = {}
  for spelling, count in pairs(all) do counts[#counts + 1] = {spelling, count} end
  if #counts <= MOST_SPELLINGS then return end
  table.sort(counts, function(one, other)
    if one[2] ~= other[2] then return one[2] > other[2] end
    return one[1] < other[1]
  end)
  for place = MOST_SPELLINGS + 1, #counts do
    if counts[place][1] ~= best then all[counts[place][1]] = nil end
  end
end

-- Note how often each spelling of a name was met that has several; the name itself is one of them. As long as a name has
-- a single one, its score says how often that was, and `seen` has nothing of it: most names cost no more than a look.
-- `spelled` is {name, its spelling, how many} for all that were spelled otherwise. Answers what is to be written to
-- `shown`, which of them was met most often, of several the first that was, and to `seen`.
local function spell(names, counts, scores, spelled)
  local met = {}
  for _, one in ipairs(spelled) do
    local name = one[1]
    if not met[name] then met[name] = {} end
    table.insert(met[name], one)
  end
  local displays = read('HMGET', shown, names)
  local places, asked = {}, {}
  for i, name in ipairs(names) do
    if displays[i] or met[name] then places[#places + 1], asked[#asked + 1] = i, name end
  end
  local to_shown, to_seen = {}, {}
  for at, text in ipairs(read('HMGET', seen, asked)) do
    local i, name = places[at], asked[at]
    local found, own = met[name] or {}, counts[name]
    for _, one in ipairs(found) do own = own - one[3] end
    local before = displays[i] or (scores[i] and name)
    local only = #found == 0 and name or (#found == 1 and own == 0 and found[1][2])
    local all = text and cjson.decode(text)
    if type(all) == 'table' or not only or (before and only ~= before) then
      if type(all) ~= 'table' then all = before and {[before] = tonumber(scores[i] or 0)} or {} end
      local best = before
      if own > 0 then found[#found + 1] = {name, name, own} end
      for _, one in ipairs(found) do all[one[2]] = (all[one[2]] or 0) + one[3] end
      for _, one in ipairs(found) do
        if not best or all[one[2]] > (all[best] or 0) then best = one[2] end
      end
      bound_spellings(all, best)
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, best
      to_seen[#to_seen + 1], to_seen[#to_seen + 2] = name, cjson.encode(all)
    elseif not before and only ~= name then
      to_shown[#to_shown + 1], to_shown[#to_shown + 2] = name, only
    end
  end
  return to_shown, to_seen
end

-- Note that a spelling of a name was met once less. Answers nothing.
local function unspell(name, spelling)
  local text = redis.call('HGET', seen, name)
  local all = text and cjson.decode(text)
  if type(all) ~= 'table' then return end
  local met = spelling == '' and name or spelling
  all[met] = (all[met] or 1) - 1
  if all[met] <= 0 then all[met] = nil end
  local best = redis.call('HGET', shown, name)
  for other, count in pairs(all) do
    if count > (all[best] or 0) then best = other end
  end
  if best then redis.call('HSET', shown, name, best) end
  if next(all) then redis.call('HSET', seen, name, cjson.encode(all)) else redis.call('HDEL', seen, name) end
end
