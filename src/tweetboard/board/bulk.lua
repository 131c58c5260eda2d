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

-- What is to be written so that `counts` are added to what `before` says of them in the order of their list: a score and
-- its name by turns, as a sorted set wants it, or, `name_first`, as a hash does. `afresh` what was before is no more.
local function summed(counts, before, afresh, name_first)
  local words, name_at, sum_at = {}, name_first and 1 or 0, name_first and 0 or 1
  for i, name in ipairs(listed(counts)) do
    words[2 * i - name_at] = name
    words[2 * i - sum_at] = (not afresh and before[i] and tonumber(before[i]) or 0) + counts[name]
  end
  return words
end

local function sums_in_set(key, counts, afresh)
  return summed(counts, read('ZMSCORE', key, listed(counts)), afresh)
end

local function sums_in_hash(key, counts, afresh)
  return summed(counts, read('HMGET', key, listed(counts)), afresh, true)
end

-- What is remembered for a while lies in several hashes, each of which is thrown away whole: a step over all that is in one
-- would hold Redis up. board:KIND lists them: number -> the present when it was last added to; board:KIND:NUMBER is one.


local function generation_key(kind, number) return string.format('%s:%s:%.0f', board, kind, number) end

local function drop_generations(kind)
  local index = board .. ':' .. kind
  for _, number in ipairs(redis.call('HKEYS', index)) do redis.call('UNLINK', generation_key(kind, number)) end
  redis.call('UNLINK', index)
end

-- Add `words` by number, and throw away what nobody has added to for `life` whiles; should nothing come any more, Redis does
-- in twice that.
local function remember(kind, words_by_number, while_s, life, now)
  local index, present, is_new = board .. ':' .. kind, math.floor(now / while_s), false
  for number, words in pairs(words_by_number) do
    write('HSET', generation_key(kind, number), words)
    redis.call('EXPIRE', generation_key(kind, number), 2 * life * while_s)
    local added = redis.call('HSET', index, string.format('%.0f', number), string.format('%.0f', present))
    is_new = is_new or added == 1
  end
  if not is_new then return end
  local all = redis.call('HGETALL', index)
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) < present - life then
      redis.call('UNLINK', generation_key(kind, all[i]))
      redis.call('HDEL', index, all[i])
    end
  end
end
