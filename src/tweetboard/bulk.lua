-- Many values read or written at once: a third less work than one by one. Stands before every other part of a board's
-- script, which may name its arguments here for all of them.

local board, shown, seen, verb = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

local SLICE = 4000 -- Lua hands over at most some 8,000 words at once

local function in_slices(words, call)
  for first = 1, #words, SLICE do
    call(first, math.min(first + SLICE - 1, #words))
  end
end

local function read(command, key, fields)
  if #fields <= SLICE then return #fields > 0 and redis.call(command, key, unpack(fields)) or {} end
  local found = {}
  in_slices(fields, function(first, last)
    for i, value in ipairs(redis.call(command, key, unpack(fields, first, last))) do found[first + i - 1] = value end
  end)
  return found
end

local function write(command, key, words)
  in_slices(words, function(first, last) redis.call(command, key, unpack(words, first, last)) end)
end

-- The names of a table {name -> how many}, as a list; made once, however often it is asked for.
local lists = {}
local function listed(counts)
  local names = lists[counts]
  if not names then
    names = {}
    for name in pairs(counts) do names[#names + 1] = name end
    lists[counts] = names
  end
  return names
end

-- What is to be written so that `counts` are added to a sorted set, or to a hash; `afresh` what stands there is no more.
local function sums_in_set(key, counts, afresh)
  local names, words = listed(counts), {}
  local before = read('ZMSCORE', key, names)
  for i, name in ipairs(names) do
    words[2 * i - 1], words[2 * i] = (not afresh and before[i] and tonumber(before[i]) or 0) + counts[name], name
  end
  return words
end

local function sums_in_hash(key, counts, afresh)
  local names, words = listed(counts), {}
  local before = read('HMGET', key, names)
  for i, name in ipairs(names) do
    words[2 * i - 1], words[2 * i] = name, (not afresh and before[i] and tonumber(before[i]) or 0) + counts[name]
  end
  return words
end
