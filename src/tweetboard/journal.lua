-- One stream's state: who may append, how far it has come, and the batches that some board has not applied yet.
--
-- KEYS: 1 the stream's hash, 2 its journal, 3 its recent ids, 4 which layout all keys have, 5... each board's hash of
-- what it has applied.
-- ARGV: 1 verb, 2 the stream's name, then the verb's own.

local stream, journal, ids, schema = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb, name = ARGV[1], ARGV[2]

local function first_in_journal()
  local entry = redis.call('XRANGE', journal, '-', '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '^%d+'))
end

-- Each board's last batch, `unknown` where it has none. Every key is read before any is written, here and below, so
-- that a key of another type ends the script before it has changed anything.
local function all_applied(unknown)
  local applied = {}
  for i = 5, #KEYS do
    applied[#applied + 1] = tonumber(redis.call('HGET', KEYS[i], name) or unknown)
  end
  return applied
end

-- Whether anything stands at our keys that we have not written, while the stream's hash does not say that it is ours:
-- its name, else nil. A journal without its hash is left over from us where its first entry is one of our messages.
local function foreign()
  if redis.call('HLEN', stream) > 0 then return stream end
  local entry = redis.call('XRANGE', journal, '-', '+', 'COUNT', 1)[1]
  local ours = '{"source":"' .. name .. '","session":'
  if entry and string.sub(entry[2][2] or '', 1, #ours) ~= ours then return journal end
  if redis.call('ZCOUNT', ids, '-inf', '(1000000000') > 0 then return ids end -- ours are Unix times
end

-- begin(token, boards as a JSON list of "key (channel)", in the order of KEYS: what is in the journal for one is under its
-- channel, so that under another it is new to the stream; tokens of the same instance whose begin was never
-- answered, as JSON; the number of the layout): become the owner.
-- Answers {seq, position, the owner before (not counting those unanswered), boards no longer fed (JSON), batches that no
-- journal holds any more, boards that have more than the stream has (somebody deleted its hash), until when anybody
-- listened to upstream}, or an error where another program's data, or another layout, are in the way.
local function begin()
  local token, boards = ARGV[3], cjson.decode(ARGV[4])
  local state = redis.call('HMGET', stream, 'seq', 'position', 'owner', 'boards', 'heard', 'after')
  local layout = redis.call('GET', schema)
  if layout and layout ~= ARGV[6] then
    return redis.error_reply('SCHEMA ' .. schema .. ' is ' .. layout .. ', and this version of tweetboard knows ' ..
      ARGV[6] .. ' alone; use the version that wrote it, or another redis.prefix')
  end
  local in_the_way = not state[1] and not state[3] and foreign()
  if in_the_way then
    return redis.error_reply('FOREIGN ' .. in_the_way .. " holds another program's data; choose another redis.prefix")
  end
  local before = state[3] or ''
  for _, unanswered in ipairs(cjson.decode(ARGV[5])) do
    if state[3] == unanswered then before = state[6] or '' end
  end
  local seq = tonumber(state[1] or 0)
  local applied = all_applied(-1)
  local first = first_in_journal() or seq + 1
  local dropped, lost, ahead = {}, 0, 0
  for _, board in ipairs(cjson.decode(state[4] or '[]')) do dropped[board] = true end

  if not layout then redis.call('SET', schema, ARGV[6]) end

  -- Without a stream hash the journal's numbers mean nothing (somebody deleted the one and not the other).
  if seq == 0 then
    redis.call('DEL', journal)
    first = 1
  end
  for i, board in ipairs(boards) do
    local key = string.match(board, '^(.*) %(') or board -- as earlier versions had them
    local listed = dropped[board] or dropped[key]
    local known = listed and applied[i] >= 0
    dropped[board], dropped[key] = nil, nil
    if applied[i] > seq then ahead = ahead + 1 end
    if listed and applied[i] < 0 then lost = lost + seq - first + 1 end -- somebody deleted where it stands
    if not known or applied[i] > seq then
      redis.call('HSET', KEYS[4 + i], name, seq) -- new to the stream: it counts from here on
    elseif applied[i] < first - 1 then
      lost = lost + first - 1 - applied[i]
      redis.call('HSET', KEYS[4 + i], name, first - 1)
    end
  end

  redis.call('HSET', stream, 'owner', token, 'seq', seq, 'boards', ARGV[4], 'after', before)
  local gone = {}
  for board in pairs(dropped) do gone[#gone + 1] = board end
  return {seq, state[2] or '', before, #gone > 0 and cjson.encode(gone) or '[]', lost, ahead, state[5] or '0'}
end

-- look(token, until when upstream was listened to, in Unix seconds): answers {owner, seq}.
local function look()
  local state = redis.call('HMGET', stream, 'owner', 'seq')
  if state[1] == ARGV[3] and ARGV[4] ~= '0' then redis.call('HSET', stream, 'heard', ARGV[4]) end
  return {state[1] or '', tonumber(state[2] or 0)}
end

-- append(token, seq, position, ids as JSON, how many seconds of posts coming to keep them, then channel, message,
-- channel, message...): journal one batch and publish it.
-- Answers {'appended', the lowest batch applied by all boards}, or a refusal.
local function append()
  local token, seq = ARGV[3], tonumber(ARGV[4])
  local state = redis.call('HMGET', stream, 'owner', 'seq')
  local last = tonumber(state[2] or 0)
  if state[1] ~= token then return {'fenced', last} end -- guard
  if seq ~= last + 1 then return {'out of step', last} end -- guard

  local lowest = math.min(seq, unpack(all_applied(0)))
  redis.call('ZCARD', ids)

  -- Publishing comes first: where it is not permitted, nothing has been written when the script fails.
  local entry = {}
  for i = 8, #ARGV, 2 do
    redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
    entry[#entry + 1], entry[#entry + 2] = ARGV[i], ARGV[i + 1]
  end
  redis.call('XADD', journal, seq .. '-0', unpack(entry))
  redis.call('HSET', stream, 'seq', seq, 'position', ARGV[5])
  if ARGV[6] ~= '[]' then
    -- Their age is counted only while posts come: after an hour's pause upstream sends again what came just before it.
    local now = tonumber(redis.call('TIME')[1])
    local clock = redis.call('HMGET', stream, 'ids_at', 'ids_clock')
    local age = (tonumber(clock[2]) or now) + math.max(math.min(now - (tonumber(clock[1]) or now), 1), 0)
    redis.call('HSET', stream, 'ids_at', now, 'ids_clock', age)
    for _, id in ipairs(cjson.decode(ARGV[6])) do redis.call('ZADD', ids, age, id) end
    redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. age - tonumber(ARGV[7]))
  end
  redis.call('XTRIM', journal, 'MINID', (lowest + 1) .. '-0')
  return {'appended', lowest}
end

if verb == 'begin' then return begin() end
if verb == 'look' then return look() end
return append()
