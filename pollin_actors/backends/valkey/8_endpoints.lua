-- Endpoints themselves.

-- What is needed of an endpoint here, of the arguments from there on: ttl, dedup_for, keep_for,
-- capacity, capacity_bytes, then three lists, each after its length.
local function terms_of(args, first, marks)
  local at = first + 5
  local function list(width)
    local items = {}
    local length = tonumber(args[at])
    at = at + 1
    for _ = 1, length do
      if width == 1 then
        items[#items + 1] = args[at]
      else
        items[#items + 1] = { args[at], args[at + 1] }
      end
      at = at + width
    end
    return items
  end
  return {
    ttl = args[first],
    dedup = args[first + 1],
    keep = args[first + 2],
    capacity = args[first + 3],
    capacity_bytes = args[first + 4],
    phases = list(1),
    consumes = list(1),
    secrets = list(2),
    marks = marks
  }
end

local function unlink(q)
  for _, name in ipairs(GENERATION) do
    redis.call('UNLINK', q.at .. name)
  end
end

-- Its number in the order of creation, the endpoint as JSON, its terms.
redis.register_function({
  function_name = 'LIBRARY_create',
  callback = function(keys, args)
    local key = keys[1]
    local number = redis.call('HGET', key, 'o')
    if number then
      return { 'exists', number }
    end
    local generation = int(redis.call('HINCRBY', key, 'p', 1))
    local terms = cmsgpack.pack(terms_of(args, 5, {}))
    redis.call('HSET', key, 'e', args[4], 't', terms, 'o', args[3], 'g', generation, 'n', '')
    publish(key, true)
    return { 'ok' }
  end
})

redis.register_function({
  function_name = 'LIBRARY_find_endpoint',
  flags = { 'no-writes' },
  callback = function(keys)
    local found = redis.call('HMGET', keys[1], 'e', 'o')
    return { 'ok', found[1] or '', found[2] or '' }
  end
})

-- The endpoint as it is expected to be or an empty text, the phase that begins to be consumed or an
-- empty text, the endpoint as JSON, its terms.
operation('update', {}, function(q, args)
  if args[3] ~= '' and args[3] ~= redis.call('HGET', q.key, 'e') then
    return { 'changed' }
  end
  local marks = {}
  for phase, mark in pairs(q.terms.marks) do
    marks[phase] = mark
  end
  if args[4] ~= '' then
    marks[wanted(args[4])] = position(q)
  end
  redis.call('HSET', q.key, 'e', args[5], 't', cmsgpack.pack(terms_of(args, 6, marks)))
  publish(q.key, true)
  return { 'ok' }
end)

redis.register_function({
  function_name = 'LIBRARY_delete_endpoint',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    local key = keys[1]
    local q = open(key, args)
    if not q then
      return { 'ok', '' }
    end
    local number = redis.call('HGET', key, 'o')
    unlink(q)
    redis.call('HDEL', key, 'e', 't', 'o', 'g', 'n', 'w', 'x')
    publish(key, true)
    return { 'ok', number }
  end
})

operation('reset', { 'allow-oom' }, function(q)
  local found = redis.call('ZCARD', q.at .. 'q')
  unlink(q)
  local at = int(position(q))
  q.at = q.key .. ':' .. at .. ':'
  q.next, q.sooner, q.noted, q.shown = '', true, true, true
  redis.call('HSET', q.key, 'g', at)
  local text = record('0', '', 'reset', '', '', q.now, '', 0, '', '')
  redis.call('XADD', q.at .. 'h', at .. '-0', 'r', text)
  return { 'ok', found }
end)

-- Give a name in the list the number of its endpoint again, unless another has come in between.
redis.register_function({
  function_name = 'LIBRARY_relist',
  callback = function(keys, args)
    if redis.call('ZSCORE', keys[1], args[3]) == args[4] then
      redis.call('ZADD', keys[1], args[5], args[3])
    end
    return { 'ok' }
  end
})

-- Take a name out of the list of endpoints, unless it was created again meanwhile.
redis.register_function({
  function_name = 'LIBRARY_unlist',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    if redis.call('ZSCORE', keys[1], args[3]) == args[4] then
      redis.call('ZREM', keys[1], args[3])
    end
    return { 'ok' }
  end
})
