-- Once per author: an author adds to a name at most once in a while. Stands behind bulk.lua and before scoreboard.lua.
--
-- board:authors:NUMBER  hash  of each author and name that have counted, when they did last
--
-- What is remembered is thrown away whole, some two to three times that while after it was: who comes later than that
-- after others of the same name may count once more.

local GENERATIONS = 3

local function authors_key(number) return string.format('%s:authors:%.0f', board, number) end

local function forget_authors(while_s, now)
  local generation = math.floor(now / while_s)
  for number = generation - GENERATIONS, generation + 1 do redis.call('UNLINK', authors_key(number)) end
end

-- Choose what counts of `entries` {time, {name, author, spelling, name, author, spelling...}}, in the order in which they
-- came; an empty author is nobody, who always counts, an empty spelling the name itself. Answers groups {time, {name ->
-- how many}}, what of it is spelled otherwise {name, spelling, how many}, and a function that writes.
local function once(entries, while_s, now)
  local fields, places = {}, {}
  for _, entry in ipairs(entries) do
    for i = 1, #entry[2], 3 do
      local field = entry[2][i + 1] .. '\n' .. entry[2][i]
      if not places[field] then
        fields[#fields + 1] = field
        places[field] = #fields
      end
    end
  end
  local generation, last, words = math.floor(now / while_s), {}, {}
  for number = generation - GENERATIONS + 1, generation do
    for i, time in ipairs(read('HMGET', authors_key(number), fields)) do
      if time then last[i] = math.max(tonumber(time), last[i] or 0) end
    end
  end
  local groups, spelled, tallies = {}, {}, {}
  for _, entry in ipairs(entries) do
    local time, counts = math.min(entry[1], now), {}
    for i = 1, #entry[2], 3 do
      local name, author, spelling = entry[2][i], entry[2][i + 1], entry[2][i + 2]
      local field = author .. '\n' .. name
      local place = places[field]
      if author == '' or not last[place] or time - last[place] >= while_s then
        if author ~= '' then
          last[place] = time
          words[#words + 1], words[#words + 2] = field, time
        end
        counts[name] = (counts[name] or 0) + 1
        if spelling ~= '' then
          local tally = tallies[name .. '\n' .. spelling]
          if tally then
            tally[3] = tally[3] + 1
          else
            tally = {name, spelling, 1}
            tallies[name .. '\n' .. spelling], spelled[#spelled + 1] = tally, tally
          end
        end
      end
    end
    if next(counts) then groups[#groups + 1] = {entry[1], counts} end
  end
  return groups, spelled, function()
    if #words == 0 then return end
    write('HSET', authors_key(generation), words)
    redis.call('EXPIRE', authors_key(generation), (GENERATIONS + 1) * while_s)
  end
end
