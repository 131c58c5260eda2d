-- Which spelling of a name is shown: the one met most often. Stands behind bulk.lua and before scoreboard.lua, which makes
-- `shown`, a hash of how names are shown that are not shown as they stand on the board, and `seen`, one of how often
-- spellings were met.

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
