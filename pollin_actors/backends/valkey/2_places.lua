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

-- A slice of what is available, of one phase or, without one, of all; numbers, ascending.
local function available(q, phase, offset, limit)
  local key = q.at .. 'x'
  local phases = phase and { phase } or phases_in_use(q)
  local numbers = {}
  if #phases == 1 then
    local start = phases[1] .. '\0'
    local low, high = '[' .. start .. '0', '(' .. start .. '1'
    numbers = redis.call('ZRANGEBYLEX', key, low, high, 'LIMIT', offset, limit)
    for at, member in ipairs(numbers) do
      numbers[at] = number_of(member)
    end
    return numbers
  end
  for _, name in ipairs(phases) do
    local start = name .. '\0'
    local low, high = '[' .. start .. '0', '(' .. start .. '1'
    local some = redis.call('ZRANGEBYLEX', key, low, high, 'LIMIT', 0, offset + limit)
    for _, member in ipairs(some) do
      numbers[#numbers + 1] = string.sub(member, -16)
    end
  end
  table.sort(numbers)
  local result = {}
  for at = offset + 1, math.min(offset + limit, #numbers) do
    result[#result + 1] = int(tonumber(numbers[at]))
  end
  return result
end

-- A slice of all that is in a phase; numbers, ascending or, in reverse, descending.
local function in_phase(q, phase, offset, limit, is_reverse)
  local key = q.at .. 'x'
  local found = {}
  for held = 0, 1 do
    local low, high = '[' .. phase .. '\0' .. held, '(' .. phase .. '\0' .. (held + 1)
    local some
    if is_reverse then
      some = redis.call('ZREVRANGEBYLEX', key, high, low, 'LIMIT', 0, offset + limit)
    else
      some = redis.call('ZRANGEBYLEX', key, low, high, 'LIMIT', 0, offset + limit)
    end
    for _, member in ipairs(some) do
      found[#found + 1] = string.sub(member, -16)
    end
  end
  if is_reverse then
    table.sort(found, function(one, other) return one > other end)
  else
    table.sort(found)
  end
  local result = {}
  for at = offset + 1, math.min(offset + limit, #found) do
    result[#result + 1] = int(tonumber(found[at]))
  end
  return result
end
