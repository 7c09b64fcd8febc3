-- What time does: leases end, delays end, callbacks expire, the past is forgotten.

-- Rows that one call brings up to date at most: some milliseconds. If more are due it says so, and
-- is to be called again.
local AT_ONCE = 500

-- The first members of a set by time that are due, at most so many.
local function first_due(q, name, limit)
  return redis.call('ZRANGEBYLEX', q.at .. name, '-', '[' .. q.now .. ';', 'LIMIT', 0, limit)
end

local function drop_body(q, number, row)
  redis.call('HDEL', q.at .. 'r', 'b' .. number)
  if row[PARENT] ~= '' then
    redis.call('ZREM', q.at .. 'k', row[PARENT] .. '\0' .. padded(number))
  end
end

local function drop(q, number, row)
  local key = q.at .. 'r'
  for _, name in ipairs({ 'i' .. row[ID], 'f' .. row[FENCE] }) do
    if name ~= 'f' and redis.call('HGET', key, name) == number then
      redis.call('HDEL', key, name)
    end
  end
  redis.call('HDEL', key, 'r' .. number)
  q.rows[number] = nil
end

-- Go on remembering the id of a row, or do not.
local function strip(q, number, row)
  drop_body(q, number, row)
  if row[REMEMBERED] > q.now then
    row[PLACE], row[DUE], row[KEEP] = 'm', row[REMEMBERED], ''
    redis.call('ZADD', q.at .. 'o', 0, row[DUE] .. padded(number))
    save(q, number, row)
  else
    drop(q, number, row)
  end
end

-- Take a row out of the queue. With by_claim whoever has claimed it did so.
local function remove(q, number, row, kind, by_claim, reason)
  note(q, number, row, kind, row[PHASE], '', by_claim, reason)
  if row[PLACE] ~= 'c' then
    unexpects(q, number, row)
  end
  leave(q, number, row)
  redis.call('ZREM', q.at .. 'q', number)
  unmeasure(q, row[PHASE], row[SIZE])
  row[EXPIRES], row[TOKEN], row[BY] = '', '', ''
  if row[KEEP] == '' then
    strip(q, number, row)
    return
  end
  row[PLACE], row[DUE] = 'k', plus(q.now, row[KEEP])
  redis.call('ZADD', q.at .. 'o', 0, row[DUE] .. padded(number))
  redis.call('ZADD', q.at .. 'z', number, number)
  redis.call('ZADD', q.at .. 'm', 0, 'i' .. row[ID] .. '\0' .. padded(number))
  if row[FENCE] ~= '' then
    redis.call('ZADD', q.at .. 'm', 0, 'f' .. row[FENCE] .. '\0' .. padded(number))
  end
  save(q, number, row)
end

-- The records of a row, newest first, by a function of position and text; without a text for the
-- one that says that it was pushed.
local function trail(q, number, row, each)
  local at = row[LAST]
  while at ~= '' do
    local found = redis.call('XRANGE', q.at .. 'h', at .. '-0', at .. '-0')[1]
    local text = found and found[2][2]
    each(at, text)
    at = text and string.match(text, '^[^%z]*%z([^%z]*)') or ''
  end
  each(number, nil)
end

-- Forget what has been kept for long enough, and ids; at most so many, and say how many.
local function forget(q, limit)
  local found = first_due(q, 'o', limit)
  for _, member in ipairs(found) do
    local number = number_of(member)
    local row = load(q, number)
    redis.call('ZREM', q.at .. 'o', member)
    if row[PLACE] == 'k' then
      trail(q, number, row, function(at) redis.call('XDEL', q.at .. 'h', at .. '-0') end)
      redis.call('ZREM', q.at .. 'z', number)
      redis.call('ZREM', q.at .. 'm', 'i' .. row[ID] .. '\0' .. padded(number))
      if row[FENCE] ~= '' then
        redis.call('ZREM', q.at .. 'm', 'f' .. row[FENCE] .. '\0' .. padded(number))
      end
      row[LAST], row[KEEP] = '', ''
      strip(q, number, row)
    else
      drop(q, number, row)
    end
  end
  return #found
end

local function lapse(q, number, row)
  note(q, number, row, 'lapsed', row[PHASE], row[PHASE], true, '')
  give_back(q, number, row, '')
end

local function first_of(q, name)
  local member = redis.call('ZRANGE', q.at .. name, 0, 0)[1]
  return member and string.sub(member, 1, 19) or ''
end

local function earliest(...)
  local first = ''
  for _, at in ipairs({ ... }) do
    if at ~= '' and (first == '' or at < first) then
      first = at
    end
  end
  return first
end

-- Make effective what time has done until now. Says how many have expired, and whether that is all.
local function bring(q, limit)
  local expired, left = 0, AT_ONCE
  if q.next == '' or q.next > q.now then
    return 0, true
  end
  local found
  repeat
    found = 0
    for _, member in ipairs(first_due(q, 'l', left)) do
      local number = number_of(member)
      lapse(q, number, load(q, number))
      found = found + 1
    end
    for _, member in ipairs(first_due(q, 'd', left)) do
      local number = number_of(member)
      local row = load(q, number)
      take(q, number, row)
      put(q, number, row)
      save(q, number, row)
      found = found + 1
    end
    local most = math.min(left, limit - expired)
    for _, member in ipairs(first_due(q, 'e', most)) do
      local number = number_of(member)
      local row = load(q, number)
      -- One that does not expire any more takes itself out when it is loaded.
      if row[EXPIRES] ~= '' then
        remove(q, number, row, 'expired', false, '')
        expired = expired + 1
      else
        save(q, number, row)
      end
      found = found + 1
    end
    left = left - found
  until found == 0 or left <= 0
  if expired > 0 then
    redis.call('HINCRBY', q.at .. 'c', 'expired', expired)
  end
  q.next, q.sooner = earliest(first_of(q, 'l'), first_of(q, 'd'), first_of(q, 'e')), true
  return expired, q.next == '' or q.next > q.now
end
