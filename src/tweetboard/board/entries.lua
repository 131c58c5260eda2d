-- Names one by one, with who wrote them and in which post. Stands behind bulk.lua and before scoreboard.lua.
--
-- Once per author: of an author's posts with a name, two that count are never closer together than a while.
-- Forgetting: what a post has added can be taken away again for a while after it came, and its author may count anew.
--
-- board:authors:NUMBER  hash  author and name -> when they have counted, in the while of that number: at most once in each
-- board:posts:NUMBER    hash  stream and id -> what posts of that id have added that came in that while, mostly one
--
-- Entries are {time, {name, author, spelling, id, name, author, spelling, id...}}; an empty author is nobody, who always
-- counts, an empty spelling the name itself, an empty id a post that nobody can take away, 0 the post of the name before.
-- Gone are {id, how many entries came before that was said}: it takes away all that came with that id. What a post has
-- added is {time, {name, spelling, name, spelling...}, author, the step}.

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
  for number = present - 1, present + 1 do
    local key = generation_key('posts', number)
    for i, text in ipairs(read('HMGET', key, fields)) do
      if text then table.insert(found[ids[i]], {key, fields[i], cjson.decode(text)}) end
    end
  end
  return found
end

-- What remembers what posts have added, id -> {what...}, in a step, beside what came with the same ids before, unless that is
-- `settled`.
local function posts_memory(stream, posts, settled, while_s, now)
  local number, fields = math.floor(now / while_s), {}
  local key, ids = generation_key('posts', number), listed(posts)
  for i, id in ipairs(ids) do fields[i] = stream .. '\n' .. id end
  redis.call('HLEN', key)
  local before = read('HMGET', key, fields)
  return function(step)
    local words = {}
    for i, id in ipairs(ids) do
      local all = before[i] and not settled[id] and cjson.decode(before[i]) or {}
      for _, post in ipairs(posts[id]) do
        post[4] = step
        all[#all + 1] = post
      end
      words[2 * i - 1], words[2 * i] = fields[i], cjson.encode(all)
    end
    if #words > 0 then remember('posts', {[number] = words}, while_s, POSTS_LIFE, now) end
  end
end

-- Choose what counts of `entries`, and what is taken away again of posts that are `gone`, all in the order in which it came.
-- Answers groups {time, {name -> how many}}; what of it is spelled otherwise, {name, spelling, how many}; what is to be
-- taken away, {what a post has added...}; and a function that writes down what was done in that step.
local function chosen_names(stream, entries, gone, kept, now)
  local counts_for, uncount, write_authors = author_memory(entries, kept.once_s, now)
  local forgets = kept.forget_s > 0
  local remembered = forgets and posts_remembered(stream, gone, kept.forget_s, now) or {}
  local groups, spelled, tallies, posts, undone, forgotten, settled, told = {}, {}, {}, {}, {}, {}, {}, 1

  local function undo(all)
    for _, post in ipairs(all) do
      undone[#undone + 1] = post
      for i = 1, #post[2], 2 do uncount(post[3], post[2][i], post[1]) end
    end
  end
  local function undo_gone(entries_before)
    while gone[told] and gone[told][2] <= entries_before do
      local id = gone[told][1]
      for _, one in ipairs(remembered[id] or {}) do
        forgotten[#forgotten + 1] = one
        undo(one[3])
      end
      undo(posts[id] or {})
      remembered[id], posts[id], settled[id], told = nil, nil, true, told + 1
    end
  end
  local function tally(name, spelling)
    if spelling == '' then return end
    local key = name .. '\n' .. spelling
    if not tallies[key] then
      tallies[key] = {name, spelling, 0}
      spelled[#spelled + 1] = tallies[key]
    end
    tallies[key][3] = tallies[key][3] + 1
  end

  local id, post
  for at, entry in ipairs(entries) do
    undo_gone(at - 1)
    local counts, time, words = {}, math.min(entry[1], now), entry[2]
    for i = 1, #words, WORDS do
      local name, author, spelling = words[i], words[i + 1], words[i + 2]
      if words[i + 3] ~= 0 then id, post = words[i + 3], nil end
      if counts_for(author, name, time) then
        counts[name] = (counts[name] or 0) + 1
        tally(name, spelling)
        if forgets and id ~= '' then
          if not post then
            post = {time, {}, author}
            posts[id] = posts[id] or {}
            table.insert(posts[id], post)
          end
          table.insert(post[2], name)
          table.insert(post[2], spelling)
        end
      end
    end
    if next(counts) then groups[#groups + 1] = {entry[1], counts} end
  end
  undo_gone(#entries)
  local write_posts = forgets and posts_memory(stream, posts, settled, kept.forget_s, now)
  return groups, spelled, undone, function(step)
    write_authors()
    for _, one in ipairs(forgotten) do redis.call('HDEL', one[1], one[2]) end
    if forgets then write_posts(step) end
  end
end
