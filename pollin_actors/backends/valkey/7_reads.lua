-- Looking, and going on from there.

-- Bodies in a page, in bytes: a few large callbacks are a page too.
local PAGE_BYTES = 4 * 1024 * 1024
local PAGE_ROWS = 2000
-- Records that a page looks at.
local LOOKED_AT = 5000

-- Key, or an empty text: the oldest; whether what is kept will do.
operation('fetch', { 'allow-oom' }, function(q, args)
  local number
  if args[3] == '' then
    number = redis.call('ZRANGE', q.at .. 'q', 0, 0)[1]
  else
    number = find(q, wanted(args[3]))
    if not number and args[4] ~= '' then
      number = last_kept(q, 'i' .. wanted(args[3]))
    end
  end
  if not number then
    return { 'ok' }
  end
  return show(q, { number }, { 'ok' })
end)

-- Phase, offset, limit, whether from the end.
operation('fetch_slice', { 'allow-oom' }, function(q, args)
  local phase, offset, limit = wanted(args[3]), tonumber(args[4]), tonumber(args[5])
  local is_reverse = args[6] ~= ''
  if limit == 0 and not phase then
    return { 'ok' }
  end
  if not phase then
    local command = is_reverse and 'ZREVRANGE' or 'ZRANGE'
    return show(q, redis.call(command, q.at .. 'q', args[4], int(offset + limit - 1)), { 'ok' })
  end
  if counted(q, phase) == 0 and not knows(q, phase) then
    return unknown(q, phase)
  end
  return show(q, in_phase(q, phase, offset, limit, is_reverse), { 'ok' })
end)

operation('count', { 'allow-oom' }, function(q, args)
  local phase = wanted(args[3])
  if not phase then
    return { 'ok', redis.call('ZCARD', q.at .. 'q') }
  end
  local found = counted(q, phase)
  if found == 0 and not knows(q, phase) then
    return unknown(q, phase)
  end
  return { 'ok', found }
end)

-- A page of these numbers, of which there may be one more than the limit; it ends early where
-- bodies are large. The reply begins with the cursor.
local function page(q, numbers, limit)
  local reply, size, last = { 'ok', '' }, 0, nil
  for at, number in ipairs(numbers) do
    if at > limit or size >= PAGE_BYTES then
      reply[2] = last
      break
    end
    local row = load(q, number)
    local body = body_of(q, number)
    reply[#reply + 1] = shown(row)
    reply[#reply + 1] = body
    size, last = size + #body, number
  end
  return reply
end

local function numbers_after(q, name, after, limit)
  return redis.call('ZRANGEBYSCORE', q.at .. name, '(' .. after, '+inf', 'LIMIT', 0, limit)
end

-- After which position, limit.
operation('dump_page', { 'allow-oom' }, function(q, args)
  local limit = math.min(tonumber(args[4]), PAGE_ROWS)
  return page(q, numbers_after(q, 'q', args[3], limit + 1), limit)
end)

operation('past_page', { 'allow-oom' }, function(q, args)
  local limit = math.min(tonumber(args[4]), PAGE_ROWS)
  local numbers = {}
  for _, name in ipairs({ 'q', 'z' }) do
    for _, number in ipairs(numbers_after(q, name, args[3], limit + 1)) do
      numbers[#numbers + 1] = number
    end
  end
  table.sort(numbers, function(one, other) return tonumber(one) < tonumber(other) end)
  return page(q, numbers, limit)
end)

local function pushed(row, number)
  local at, origin = row[PUSHED_AT], row[ORIGIN]
  return record(number, '', 'pushed', '', row[PUSHED_IN], at, '', 0, origin, row[ID])
end

operation('history', { 'allow-oom' }, function(q, args)
  local numbers = {}
  local low, high = range('i' .. args[3])
  for _, member in ipairs(redis.call('ZRANGEBYLEX', q.at .. 'm', low, high)) do
    numbers[#numbers + 1] = number_of(member)
  end
  local number, queued = find(q, args[3])
  if number and queued[KEEP] ~= '' then
    numbers[#numbers + 1] = number
  end
  local reply = { 'ok' }
  for _, each in ipairs(numbers) do
    local row = load(q, each)
    trail(q, each, row, function(at, text)
      reply[#reply + 1] = at
      reply[#reply + 1] = text or pushed(row, each)
    end)
  end
  return reply
end)

-- After which position, limit, kinds with null characters around them or an empty text.
operation('history_page', { 'allow-oom' }, function(q, args)
  local limit, kinds = tonumber(args[4]), args[5]
  local reply, cursor = { 'ok', args[3] }, args[3]
  local most = kinds == '' and math.min(limit, LOOKED_AT) or LOOKED_AT
  local found = redis.call('XRANGE', q.at .. 'h', '(' .. args[3] .. '-0', '+', 'COUNT', most)
  local given = 0
  for _, entry in ipairs(found) do
    if given == limit then
      break
    end
    cursor = string.match(entry[1], '^%d+')
    local text = entry[2][2]
    if entry[2][1] == 'p' then
      text = pushed(load(q, cursor), cursor)
    end
    local kind = string.match(text, '^[^%z]*%z[^%z]*%z([^%z]*)')
    if kinds == '' or string.find(kinds, '\0' .. kind .. '\0', 1, true) then
      reply[#reply + 1] = cursor
      reply[#reply + 1] = text
      given = given + 1
    end
  end
  reply[2] = cursor
  if given < limit then
    ask(q, 'h')
  end
  return reply
end)

-- Key, whether theirs too.
operation('children', { 'allow-oom' }, function(q, args)
  local key = args[3]
  if not find(q, key) and not last_kept(q, 'i' .. key) then
    return { 'no callback', key }
  end
  local found, seen, parents = {}, { [key] = true }, { key }
  while #parents > 0 do
    local low, high = range(table.remove(parents))
    for _, member in ipairs(redis.call('ZRANGEBYLEX', q.at .. 'k', low, high)) do
      local number = number_of(member)
      local id = load(q, number)[ID]
      found[#found + 1] = number
      if args[4] ~= '' and not seen[id] then
        seen[id] = true
        parents[#parents + 1] = id
      end
    end
  end
  table.sort(found, function(one, other) return tonumber(one) < tonumber(other) end)
  return show(q, found, { 'ok' })
end)

operation('stats', { 'allow-oom' }, function(q)
  local size, held = 0, 0
  for _, phase in ipairs(phases_in_use(q)) do
    local start = phase .. '\0' .. '1'
    size = size + measured(q, phase)
    held = held + redis.call('ZLEXCOUNT', q.at .. 'x', '[' .. start, '(' .. phase .. '\0' .. '2')
  end
  local claimed = redis.call('ZCARD', q.at .. 'l')
  local expired = redis.call('HGET', q.at .. 'c', 'expired') or '0'
  return { 'ok', redis.call('ZCARD', q.at .. 'q'), int(size), claimed, held - claimed, expired }
end)

-- How many may expire, how many may be forgotten.
redis.register_function({
  function_name = 'LIBRARY_sweep',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    local q = open(keys[1], args)
    if not q then
      return { 'no endpoint' }
    end
    local most = math.min(tonumber(args[3]), AT_ONCE)
    local expired = bring(q, most)
    local forgotten = forget(q, math.min(tonumber(args[4]), AT_ONCE))
    finish(q)
    return { 'ok', expired, forgotten, AT_ONCE }
  end
})
