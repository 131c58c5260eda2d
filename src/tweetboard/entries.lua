-- Names one by one, with who wrote them and in which post. Stands behind bulk.lua and before scoreboard.lua.
--
-- Once per author: of an author's posts with a name, two that count are never closer together than a while.
-- Forgetting: what a post has added can be taken away again for a while after it came, and its author may count anew.
--
-- board:authors:NUMBER  hash  author and name -> when they have counted, in the while of that number: at most once in each
-- board:posts:NUMBER    hash  stream and id of a post -> what it has added, of those that came in that while
--
-- Entries are {time, {name, author, spelling, id, name, author, spelling, id...}}; an empty author is nobody, who always
-- counts, an empty spelling the name itself, an empty id a post that nobody can take away. Gone are {id, how many entries
-- came before that was said}. What a post has added is {time, {name, spelling, name, spelling...}, author, the step}.

local WORDS = 4 -- of each name in an entry
local AUTHORS_LIFE = 4 -- whiles, for posts may come late
local POSTS_LIFE = 1 -- while: what came before that is not looked for

-- Read when authors have counted, as far as it matters to `entries`: number -> {author and name -> when}.
local function authors_remembered(entries, while_s, now)
  local asked, counted = {}, {}
  for _, entry in ipairs(entries) do
    local number = math.floor(math.min(entry[1], now) / while_s)
    for near = number - 1, number + 1 do
      if not asked[near] then asked[near] = {} end
      for i = 1, #entry[2], WORDS do asked[near][entry[2][i + 1] .. '\n' .. entry[2][i]] = true end
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

-- Three functions: whether an author counts for a name at a time, which then has counted; that it has not after all; and
-- one that writes down what came of it.
local function author_memory(entries, while_s, now)
  if while_s == 0 then return function() return true end, function() end, function() end end
  local counted, changed, undone = authors_remembered(entries, while_s, now), {}, {}
  redis.call('HLEN', board .. ':authors')
  local function counts_for(author, name, time)
    if author == '' then return true end
    local field, number = author .. '\n' .. name, math.floor(time / while_s)
    for near = number - 1, number + 1 do
      local other = counted[near][field]
      if other and math.abs(time - other) < while_s then return false end
    end
    counted[number][field] = time
    changed[number] = changed[number] or {}
    changed[number][field] = time
    return true
  end
  local function uncount(author, name, time)
    if author == '' then return end
    local field, number = author .. '\n' .. name, math.floor(time / while_s)
    if counted[number] and counted[number][field] == time then counted[number][field] = nil end
    if changed[number] and changed[number][field] == time then
      changed[number][field] = nil
    else
      undone[#undone + 1] = {generation_key('authors', number), field, time}
    end
  end
  return counts_for, uncount, function()
    for _, one in ipairs(undone) do
      if tonumber(redis.call('HGET', one[1], one[2]) or nil) == one[3] then redis.call('HDEL', one[1], one[2]) end
    end
    local words = {}
    for number, times in pairs(changed) do
      if next(times) then words[number] = {} end
      for field, time in pairs(times) do
        table.insert(words[number], field)
        table.insert(words[number], time)
      end
    end
    if next(words) then remember('authors', words, while_s, AUTHORS_LIFE, now) end
  end
end

-- Find what the posts that are `gone` have added in earlier steps: id -> {{the key it is in, the field, what}...}. A clock
-- that goes back a little looks for what came just ahead of it too.
local function posts_remembered(stream, gone, while_s, now)
  local found, fields, ids = {}, {}, {}
  for _, one in ipairs(gone) do
    if not found[one[1]] then
      found[one[1]] = {}
      fields[#fields + 1], ids[#ids + 1] = stream .. '\n' .. one[1], one[1]
    end
  end
  local present = math.floor(now / while_s)
  redis.call('HLEN', board .. ':posts')
  redis.call('HLEN', board .. ':begun')
  redis.call('HLEN', generation_key('posts', present))
  for number = present - 1, present + 1 do
    local key = generation_key('posts', number)
    for i, text in ipairs(read('HMGET', key, fields)) do
      if text then table.insert(found[ids[i]], {key, fields[i], cjson.decode(text)}) end
    end
  end
  return found
end

-- Write down what posts have added, after what others had added is forgotten.
local function remember_posts(stream, posts, forgotten, step, while_s, now)
  for _, one in ipairs(forgotten) do redis.call('HDEL', one[1], one[2]) end
  local texts = {}
  for id, post in pairs(posts) do
    post[4] = step
    texts[#texts + 1], texts[#texts + 2] = stream .. '\n' .. id, cjson.encode(post)
  end
  if #texts > 0 then remember('posts', {[math.floor(now / while_s)] = texts}, while_s, POSTS_LIFE, now) end
end

-- Choose what counts of `entries`, and what is taken away again of posts that are `gone`, all in the order in which it came.
-- Answers groups {time, {name -> how many}}; what of it is spelled otherwise, {name, spelling, how many}; what is to be
-- taken away, {what a post has added...}; and a function that writes down what was done in that step.
local function chosen_names(stream, entries, gone, kept, now)
  local counts_for, uncount, write_authors = author_memory(entries, kept.once_s, now)
  local remembered = kept.forget_s > 0 and posts_remembered(stream, gone, kept.forget_s, now) or {}
  local groups, spelled, tallies, posts, undone, forgotten, told = {}, {}, {}, {}, {}, {}, 1

  local function undo(post)
    undone[#undone + 1] = post
    for i = 1, #post[2], 2 do uncount(post[3], post[2][i], post[1]) end
  end
  local function undo_gone(entries_before)
    while gone[told] and gone[told][2] <= entries_before do
      local id = gone[told][1]
      for _, one in ipairs(remembered[id] or {}) do
        forgotten[#forgotten + 1] = one
        undo(one[3])
      end
      if posts[id] then undo(posts[id]) end
      remembered[id], posts[id], told = nil, nil, told + 1
    end
  end
  local function count(counts, name, author, spelling, id, time)
    counts[name] = (counts[name] or 0) + 1
    if spelling ~= '' then
      local key = name .. '\n' .. spelling
      if not tallies[key] then
        tallies[key] = {name, spelling, 0}
        spelled[#spelled + 1] = tallies[key]
      end
      tallies[key][3] = tallies[key][3] + 1
    end
    if id ~= '' then
      posts[id] = posts[id] or {time, {}, author}
      table.insert(posts[id][2], name)
      table.insert(posts[id][2], spelling)
    end
  end

  for at, entry in ipairs(entries) do
    undo_gone(at - 1)
    local counts, time, words = {}, math.min(entry[1], now), entry[2]
    for i = 1, #words, WORDS do
      local name, author = words[i], words[i + 1]
      if counts_for(author, name, time) then count(counts, name, author, words[i + 2], words[i + 3], time) end
    end
    if next(counts) then groups[#groups + 1] = {entry[1], counts} end
  end
  undo_gone(#entries)
  return groups, spelled, undone, function(step)
    write_authors()
    if kept.forget_s > 0 then remember_posts(stream, posts, forgotten, step, kept.forget_s, now) end
  end
end
