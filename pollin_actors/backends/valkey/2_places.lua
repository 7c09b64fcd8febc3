-- Which rows are available, and what the others wait for.

local function shelf(row, number, is_held)
  return row[PHASE] .. '\0' .. (is_held and '1' or '0') .. padded(number)
end

-- Put a row that waits for no other where it belongs.
local function put(q, number, row)
  local ready = row[RETRY_AT]
  if row[NOT_BEFORE] > ready then
    ready = row[NOT_BEFORE]
  end
  if row[TOKEN] ~= '' then
    row[PLACE] = 'c'
    redis.call('ZADD', q.at .. 'l', 0, row[DUE] .. padded(number))
    soon(q, row[DUE])
  elseif ready > q.now then
    row[PLACE], row[DUE] = 'd', ready
    redis.call('ZADD', q.at .. 'd', 0, ready .. padded(number))
    soon(q, ready)
  else
    row[PLACE], row[DUE] = 'a', ''
    q.shown = true
  end
  redis.call('ZADD', q.at .. 'x', 0, shelf(row, number, row[PLACE] ~= 'a'))
end

-- Take a row from where it is.
local function take(q, number, row)
  redis.call('ZREM', q.at .. 'x', shelf(row, number, row[PLACE] ~= 'a'))
  if row[PLACE] == 'c' then
    redis.call('ZREM', q.at .. 'l', row[DUE] .. padded(number))
  elseif row[PLACE] == 'd' then
    redis.call('ZREM', q.at .. 'd', row[DUE] .. padded(number))
  end
end

-- Place a row that is new in its phase.
local function enter(q, number, row)
  if row[ORDER] ~= '' then
    local group = row[PHASE] .. '\0' .. row[ORDER]
    if redis.call('HSETNX', q.at .. 'g', group, number) == 0 then
      row[PLACE], row[DUE] = 'w', ''
      redis.call('ZADD', q.at .. 'w', 0, group .. '\0' .. padded(number))
      redis.call('ZADD', q.at .. 'x', 0, shelf(row, number, true))
      return
    end
  end
  put(q, number, row)
end

-- Take a row out of its phase, and let the next of its ordering key come.
local function leave(q, number, row)
  take(q, number, row)
  if row[ORDER] == '' then
    return
  end
  local group = row[PHASE] .. '\0' .. row[ORDER]
  if row[PLACE] == 'w' then
    redis.call('ZREM', q.at .. 'w', group .. '\0' .. padded(number))
    return
  end
  local low, high = range(group)
  local following = redis.call('ZRANGEBYLEX', q.at .. 'w', low, high, 'LIMIT', 0, 1)[1]
  if not following then
    redis.call('HDEL', q.at .. 'g', group)
    return
  end
  redis.call('ZREM', q.at .. 'w', following)
  local behind = number_of(following)
  redis.call('HSET', q.at .. 'g', group, behind)
  local other = load(q, behind)
  take(q, behind, other)
  put(q, behind, other)
  save(q, behind, other)
end

-- End a claim or a delay: the row stays in its phase, and keeps its turn.
local function give_back(q, number, row, retry_at)
  local was_claimed = row[PLACE] == 'c'
  take(q, number, row)
  row[TOKEN], row[BY], row[RETRY_AT] = '', '', retry_at
  put(q, number, row)
  if was_claimed then
    expects(q, number, row)
  end
  save(q, number, row)
end

-- Have a row in a phase that it enters now, claimed by nobody.
local function move(q, number, row, phase, kind, by_claim, reason)
  local at = note(q, number, row, kind, row[PHASE], phase, by_claim, reason)
  if row[PLACE] ~= 'c' then
    unexpects(q, number, row)
  end
  if phase == row[PHASE] then
    -- Acknowledged into the phase that it is in, it goes on counting.
    take(q, number, row)
    row[TOKEN], row[BY], row[RETRY_AT] = '', '', ''
    put(q, number, row)
  else
    leave(q, number, row)
    unmeasure(q, row[PHASE], row[SIZE])
    row[PHASE], row[ATTEMPTS] = phase, 0
    row[TOKEN], row[BY], row[RETRY_AT] = '', '', ''
    measure(q, phase, row[SIZE])
    enter(q, number, row)
  end
  row[ENTERED] = at
  -- Where nothing is consumed the ttl runs from the push.
  if #q.terms.consumes > 0 then
    row[EXPIRES] = expiry(q, phase)
  end
  expects(q, number, row)
  save(q, number, row)
end

-- How many are on some shelves, up to a number if there is one.
local function on_shelves(q, shelves, last)
  local found = 0
  for _, name in ipairs(shelves) do
    found = found + redis.call('ZLEXCOUNT', q.at .. 'x', '[' .. name, '[' .. name .. (last or ';'))
  end
  return found
end

-- The number, with 16 digits, before which on some shelves there are so many; nil if there is none.
local function after_so_many(q, shelves, offset, is_reverse)
  local wanted = offset + 1
  if is_reverse then
    wanted = on_shelves(q, shelves) - offset
  end
  local low, high = 1, tonumber(redis.call('HGET', q.key, 'p'))
  if wanted < 1 or on_shelves(q, shelves) < wanted then
    return nil
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if on_shelves(q, shelves, padded(middle)) < wanted then
      low = middle + 1
    else
      high = middle
    end
  end
  return padded(low)
end

-- A slice of what is on some shelves: numbers, ascending or, in reverse, descending. The work does
-- not grow with the offset: the server answers nobody else meanwhile.
local function slice(q, shelves, offset, limit, is_reverse)
  local first
  if limit == 0 or #shelves == 0 then
    return {}
  end
  if offset > 0 and #shelves > 1 then
    first, offset = after_so_many(q, shelves, offset, is_reverse), 0
    if not first then
      return {}
    end
  end
  local key, found = q.at .. 'x', {}
  for _, name in ipairs(shelves) do
    local some
    if is_reverse then
      local from, to = '[' .. name .. (first or ';'), '[' .. name
      some = redis.call('ZREVRANGEBYLEX', key, from, to, 'LIMIT', offset, limit)
    else
      local from, to = '[' .. name .. (first or ''), '[' .. name .. ';'
      some = redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', offset, limit)
    end
    for _, member in ipairs(some) do
      found[#found + 1] = string.sub(member, -16)
    end
  end
  if #shelves > 1 then
    if is_reverse then
      table.sort(found, function(one, other) return one > other end)
    else
      table.sort(found)
    end
  end
  local result = {}
  for at = 1, math.min(limit, #found) do
    result[at] = int(tonumber(found[at]))
  end
  return result
end

-- A slice of what is available, of one phase or, without one, of all; numbers, ascending.
local function available(q, phase, offset, limit)
  local shelves = {}
  for _, name in ipairs(phase and { phase } or phases_in_use(q)) do
    shelves[#shelves + 1] = name .. '\0' .. '0'
  end
  return slice(q, shelves, offset, limit, false)
end

-- A slice of all that is in a phase; numbers, ascending or, in reverse, descending.
local function in_phase(q, phase, offset, limit, is_reverse)
  local shelves = {}
  for held = 0, 1 do
    local name = phase .. '\0' .. held
    if on_shelves(q, { name }) > 0 then
      shelves[#shelves + 1] = name
    end
  end
  return slice(q, shelves, offset, limit, is_reverse)
end
