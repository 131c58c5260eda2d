-- Names one by one, with who wrote them and in which post. Stands behind bulk.lua and before scoreboard.lua.
--
-- Once per author: of an author's posts with a name, two that count are never closer together than a while.
-- Forgetting: what a post has added can be taken away again for a while after it came.
--
-- board:authors:NUMBER  hash  author and name -> when they have counted, in the while of that number: at most once in each
-- board:posts:NUMBER    hash  a post's id -> [time, [name, spelling, name, spelling...]], of what came in that while
--
-- Entries are {time, {name, author, spelling, id, name, author, spelling, id...}}; an empty author is nobody, who always
-- counts, an empty spelling the name itself, an empty id a post that nobody can take away.

local STEP = 4

-- Read when authors have counted, as far as it matters to `entries`: number -> {author and name -> when}.
local function authors_remembered(entries, while_s, now)
  local asked, counted = {}, {}
  for _, entry in ipairs(entries) do
    local number = math.floor(math.min(entry[1], now) / while_s)
    for near = number - 1, number + 1 do
      if not asked[near] then asked[near] = {} end
      for i = 1, #entry[2], STEP do asked[near][entry[2][i + 1] .. '\n' .. entry[2][i]] = true end
    end
  end
  for number, fields in pairs(asked) do
    local names = listed(fields)
    counted[number] = {}
    for i, time in ipairs(read('HMGET', generation_key('authors', number), names)) do
      if time then counted[number][names[i]] = tonumber(time) end
    end
  end
  return counted
end

-- What tells whether an author counts for a name, and what is to be remembered of that.
local function author_check(entries, while_s, now)
  if while_s == 0 then return function() return true end, {} end
  local counted, words = authors_remembered(entries, while_s, now), {}
  redis.call('HLEN', board .. ':authors')
  return function(author, name, time)
    if author == '' then return true end
    local field, number = author .. '\n' .. name, math.floor(time / while_s)
    for near = number - 1, number + 1 do
      local other = counted[near][field]
      if other and math.abs(time - other) < while_s then return false end
    end
    counted[number][field] = time
    words[number] = words[number] or {}
    table.insert(words[number], field)
    table.insert(words[number], time)
    return true
  end, words
end

-- Choose what counts of `entries`, in the order in which they came. Answers groups {time, {name -> how many}}, what of it is
-- spelled otherwise {name, spelling, how many}, what each post has added {id -> {time, names and spellings by turns}}, and
-- what is to be remembered of authors.
local function chosen_names(entries, while_s, now)
  local counts_for, words = author_check(entries, while_s, now)
  local groups, spelled, tallies, posts = {}, {}, {}, {}
  for _, entry in ipairs(entries) do
    local counts = {}
    for i = 1, #entry[2], STEP do
      local name, author, spelling, id = entry[2][i], entry[2][i + 1], entry[2][i + 2], entry[2][i + 3]
      if counts_for(author, name, math.min(entry[1], now)) then
        counts[name] = (counts[name] or 0) + 1
        local tally = spelling ~= '' and (tallies[name .. '\n' .. spelling] or {name, spelling, 0})
        if tally then
          if tally[3] == 0 then
            tallies[name .. '\n' .. spelling], spelled[#spelled + 1] = tally, tally
          end
          tally[3] = tally[3] + 1
        end
        if id ~= '' then
          posts[id] = posts[id] or {math.min(entry[1], now), {}}
          table.insert(posts[id][2], name)
          table.insert(posts[id][2], spelling)
        end
      end
    end
    if next(counts) then groups[#groups + 1] = {entry[1], counts} end
  end
  return groups, spelled, posts, words
end

-- Find what the posts `gone` have added: [{time, names and spellings by turns}...], and forget it.
local function added_by(gone, while_s, now)
  local present, found, once = math.floor(now / while_s), {}, {}
  for _, id in ipairs(gone) do once[id] = true end
  gone = listed(once)
  for number = present - 1, present do
    local key = generation_key('posts', number)
    for i, text in ipairs(read('HMGET', key, gone)) do
      if text then
        found[#found + 1] = cjson.decode(text)
        redis.call('HDEL', key, gone[i])
      end
    end
  end
  return found
end
