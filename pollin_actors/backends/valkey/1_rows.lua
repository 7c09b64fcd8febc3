-- One endpoint in this call, and its rows.
--
-- Everything of an endpoint is in one hash slot: KEYS[1] is its record, and every other key is made
-- of that key and the number of the queue's generation. A reset begins a new generation.
--
-- Times are texts of 19 digits, nanoseconds since the epoch: Lua's numbers would round them, and as
-- texts they sort. Positions are numbers, which are exact up to 2^53; in sorted sets that are read
-- in the order of their members they have 16 digits. An empty text stands for None.
--
-- The record, a hash: e the endpoint as JSON, t what is needed of it here, p the last position, o
-- its place in the order of creation, g the generation, n when something is due first, w who waits
-- to be told, x the batch that is to come again. Once the endpoint was deleted only p is left:
-- positions are never given out twice.
--
-- The keys of a generation:
--   r hash: r and number -> row, b and number -> what never changes of it, for the client, i and id
--     or f and fence -> number of the last row with it
--   q by number: what is queued      x phase, held or not, number: what is queued
--   l lease, number: what is claimed d time, number: what waits for its time
--   e time, number: what expires     j the same, of what has an ordering key
--   g hash: phase, ordering key -> number of the row whose turn it is
--   w phase, ordering key, number: those behind it
--   c hash: s and phase -> bytes, for each in which there is something; expired -> how many
--   h stream: the records            k parent, number: sub events
--   z by number: what is kept        m id or fence, number: what is kept
--   o time, number: when what has left the queue is forgotten
--   y hash: name -> position of a cursor

local GENERATION = {
  'r', 'q', 'x', 'l', 'd', 'e', 'j', 'g', 'w', 'c', 'h', 'k', 'z', 'm', 'o', 'y'
}

-- The fields of a row. PLACE is a: available, w: waits behind others of its ordering key, d: waits
-- for its time, c: claimed; and of what is not queued any more k: kept, m: only remembered. DUE is
-- until when. LAST is the position of its last record; each record names the one before.
local ID, PHASE, PLACE, EXPIRES, REMEMBERED, KEEP, PUSHED_AT, PUSHED_IN = 1, 2, 3, 4, 5, 6, 7, 8
local ATTEMPTS, DUE, TOKEN, BY, RETRY_AT, REPEATS, LAST, SIZE = 9, 10, 11, 12, 13, 14, 15, 16
local ORDER, NOT_BEFORE, FENCE, PARENT, ROOT, ORIGIN, ENTERED = 17, 18, 19, 20, 21, 22, 23

local QUEUED = { a = true, w = true, d = true, c = true }

local function int(number)
  return string.format('%.0f', number)
end

local function padded(number)
  return string.format('%016.0f', number)
end

-- The number at the end of a member.
local function number_of(member)
  return int(tonumber(string.sub(member, -16)))
end

local function plus(at, duration)
  local low = tonumber(string.sub(at, 11)) + tonumber(string.sub(duration, 11))
  local high = tonumber(string.sub(at, 1, 10)) + tonumber(string.sub(duration, 1, 10))
  if low >= 1000000000 then
    low, high = low - 1000000000, high + 1
  end
  if high > 9999999999 then
    return '9999999999999999999'
  end
  return string.format('%010.0f%09.0f', high, low)
end

-- Where members begin with this text and a null character.
local function range(start)
  return '[' .. start .. '\0', '(' .. start .. '\1'
end

local function position(q)
  return redis.call('HINCRBY', q.key, 'p', 1)
end

-- Something is due then: the next call that comes later has to look.
local function soon(q, at)
  if q.next == '' or at < q.next then
    q.next, q.sooner = at, true
  end
end

local function save(q, number, row)
  redis.call('HSET', q.at .. 'r', 'r' .. number, cmsgpack.pack(row))
end

local function expects(q, number, row)
  if row[EXPIRES] ~= '' then
    redis.call('ZADD', q.at .. 'e', 0, row[EXPIRES] .. padded(number))
    if row[ORDER] ~= '' then
      redis.call('ZADD', q.at .. 'j', 0, row[EXPIRES] .. padded(number))
    end
    soon(q, row[EXPIRES])
  end
end

local function unexpects(q, number, row)
  if row[EXPIRES] ~= '' then
    redis.call('ZREM', q.at .. 'e', row[EXPIRES] .. padded(number))
    if row[ORDER] ~= '' then
      redis.call('ZREM', q.at .. 'j', row[EXPIRES] .. padded(number))
    end
  end
end

-- The row of a number, or nil. In one call it is always the same table.
local function load(q, number)
  local row = q.rows[number]
  if row then
    return row
  end
  local found = redis.call('HGET', q.at .. 'r', 'r' .. number)
  if not found then
    return nil
  end
  row = cmsgpack.unpack(found)
  q.rows[number] = row
  -- What was in a phase when that began to be consumed does not expire.
  local mark = q.terms.marks[row[PHASE]]
  if mark and row[EXPIRES] ~= '' and row[ENTERED] < mark then
    if row[PLACE] ~= 'c' then
      unexpects(q, number, row)
    end
    row[EXPIRES] = ''
  end
  return row
end

-- The number and the row of what is queued with an id.
local function find(q, id)
  local number = redis.call('HGET', q.at .. 'r', 'i' .. id)
  local row = number and load(q, number)
  if row and QUEUED[row[PLACE]] then
    return number, row
  end
  return nil
end

-- The number of the last that is kept with an id ('i' before it) or with a fence ('f' before it).
local function last_kept(q, name)
  local low, high = range(name)
  local found = redis.call('ZREVRANGEBYLEX', q.at .. 'm', high, low, 'LIMIT', 0, 1)[1]
  return found and number_of(found)
end

local function knows(q, phase)
  for _, known in ipairs(q.terms.phases) do
    if known == phase then
      return true
    end
  end
  return false
end

local function consumes(q, phase)
  for _, consumed in ipairs(q.terms.consumes) do
    if consumed == phase then
      return true
    end
  end
  return false
end

-- When something expires that enters this phase now, where that is what counts.
local function expiry(q, phase)
  if q.terms.ttl == '' or consumes(q, phase) then
    return ''
  end
  return plus(q.now, q.terms.ttl)
end

-- How many are in a phase.
local function counted(q, phase)
  local low, high = range(phase)
  return redis.call('ZLEXCOUNT', q.at .. 'x', low, high)
end

local function measured(q, phase)
  return tonumber(redis.call('HGET', q.at .. 'c', 's' .. phase) or 0)
end

-- Count the bytes of what comes into a phase.
local function measure(q, phase, size)
  redis.call('HINCRBY', q.at .. 'c', 's' .. phase, size)
end

-- Count the bytes of what has left a phase no longer.
local function unmeasure(q, phase, size)
  if counted(q, phase) == 0 then
    redis.call('HDEL', q.at .. 'c', 's' .. phase)
  elseif size ~= 0 then
    redis.call('HINCRBY', q.at .. 'c', 's' .. phase, -size)
  end
end

-- The phases in which there is something.
local function phases_in_use(q)
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', q.at .. 'c')) do
    if string.sub(field, 1, 1) == 's' then
      found[#found + 1] = string.sub(field, 2)
    end
  end
  return found
end

local function record(number, last, kind, from, to, at, by, attempt, reason, id)
  return table.concat({ number, last, kind, from, to, at, by, attempt, reason, id }, '\0')
end

-- Write down what happens to a row. What was claimed is told with who had it, and which attempt.
local function note(q, number, row, kind, from, to, claimed, reason)
  local at = int(position(q))
  if row[KEEP] ~= '' then
    local by, attempt = '', 0
    if claimed then
      by, attempt = row[BY], row[ATTEMPTS]
    end
    local text = record(number, row[LAST], kind, from, to, q.now, by, attempt, reason, row[ID])
    redis.call('XADD', q.at .. 'h', at .. '-0', 'r', text)
    row[LAST] = at
    q.noted = true
  end
  return tonumber(at)
end

local function body_of(q, number)
  return redis.call('HGET', q.at .. 'r', 'b' .. number) or ''
end

-- What the client makes a callback of.
local function shown(row)
  return table.concat({
    row[ID], row[PHASE], row[PARENT], row[ROOT], row[ORIGIN], row[ORDER], row[NOT_BEFORE],
    row[ATTEMPTS], row[FENCE]
  }, '\0')
end

-- Rows and what belongs to them, one after the other. A row that is damaged comes without.
local function show(q, numbers, reply)
  reply = reply or {}
  for first = 1, #numbers, 500 do
    local some = {}
    for at = first, math.min(first + 499, #numbers) do
      some[#some + 1] = 'b' .. numbers[at]
    end
    local bodies = redis.call('HMGET', q.at .. 'r', unpack(some))
    for at = 1, #some do
      reply[#reply + 1] = shown(load(q, numbers[first + at - 1]))
      reply[#reply + 1] = bodies[at] or ''
    end
  end
  return reply
end
