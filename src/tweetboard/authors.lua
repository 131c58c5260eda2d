-- Once per author: of an author's posts with a name, two that count are never closer together than a while. Stands behind
-- bulk.lua and before scoreboard.lua.
--
-- board:authors         hash  the numbers of those below that there are -> the number of the moment they were last added to
-- board:authors:NUMBER  hash  author and name -> when they have counted, in the while of that number: at most once in each
--
-- What is remembered is thrown away four times that while after it was last added to, by the clock; by Redis's own, should
-- nothing come any more, after twice as long.

local LIFE = 4

local function authors_key(number) return string.format('%s:authors:%.0f', board, number) end

local function forget_authors()
  for _, number in ipairs(redis.call('HKEYS', board .. ':authors')) do redis.call('UNLINK', authors_key(number)) end
  redis.call('UNLINK', board .. ':authors')
end

local function drop_authors_before(present)
  local all = redis.call('HGETALL', board .. ':authors')
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) < present then
      redis.call('UNLINK', authors_key(all[i]))
      redis.call('HDEL', board .. ':authors', all[i])
    end
  end
end

-- Read when authors have counted, as far as it matters to `entries`: number -> {author and name -> when}.
local function remembered(entries, while_s, now)
  local asked, counted = {}, {}
  for _, entry in ipairs(entries) do
    local number = math.floor(math.min(entry[1], now) / while_s)
    for near = number - 1, number + 1 do
      if not asked[near] then asked[near] = {} end
      for i = 1, #entry[2], 3 do asked[near][entry[2][i + 1] .. '\n' .. entry[2][i]] = true end
    end
  end
  for number, fields in pairs(asked) do
    local names = listed(fields)
    counted[number] = {}
    for i, time in ipairs(read('HMGET', authors_key(number), names)) do
      if time then counted[number][names[i]] = tonumber(time) end
    end
  end
  return counted
end

-- Choose what counts of `entries` {time, {name, author, spelling, name, author, spelling...}}, in the order in which they
-- came; an empty author is nobody, who always counts, an empty spelling the name itself. Answers groups {time, {name ->
-- how many}}, what of it is spelled otherwise {name, spelling, how many}, and a function that writes.
local function once(entries, while_s, now)
  local counted, words = remembered(entries, while_s, now), {}
  local function is_first(field, time)
    local number = math.floor(time / while_s)
    for near = number - 1, number + 1 do
      local other = counted[near][field]
      if other and math.abs(time - other) < while_s then return false end
    end
    counted[number][field] = time
    words[number] = words[number] or {}
    table.insert(words[number], field)
    table.insert(words[number], time)
    return true
  end

  local groups, spelled, tallies = {}, {}, {}
  for _, entry in ipairs(entries) do
    local counts = {}
    for i = 1, #entry[2], 3 do
      local name, author, spelling = entry[2][i], entry[2][i + 1], entry[2][i + 2]
      if author == '' or is_first(author .. '\n' .. name, math.min(entry[1], now)) then
        counts[name] = (counts[name] or 0) + 1
        local tally = spelling ~= '' and (tallies[name .. '\n' .. spelling] or {name, spelling, 0})
        if tally then
          if tally[3] == 0 then
            tallies[name .. '\n' .. spelling], spelled[#spelled + 1] = tally, tally
          end
          tally[3] = tally[3] + 1
        end
      end
    end
    if next(counts) then groups[#groups + 1] = {entry[1], counts} end
  end
  redis.call('HLEN', board .. ':authors')
  return groups, spelled, function()
    local present, is_new = math.floor(now / while_s), false
    for number, fields_and_times in pairs(words) do
      write('HSET', authors_key(number), fields_and_times)
      redis.call('EXPIRE', authors_key(number), 2 * LIFE * while_s)
      local added = redis.call('HSET', board .. ':authors', string.format('%.0f', number), string.format('%.0f', present))
      is_new = is_new or added == 1
    end
    if is_new then drop_authors_before(present - LIFE) end
  end
end
