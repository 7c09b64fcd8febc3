-- How an operation is called. The arguments begin with the time and the batch that it belongs to.

-- What was unpacked is kept by what it was unpacked of, as long as that is not much: nearly every
-- call needs it. Endpoints of the same terms share it, so nobody changes it.
local TERMS_BYTES = 1024 * 1024
local read, read_bytes = {}, 0

local function terms_in(packed)
  local terms = read[packed]
  if not terms then
    terms = cmsgpack.unpack(packed)
    if read_bytes + #packed > TERMS_BYTES then
      read, read_bytes = {}, 0
    end
    read[packed], read_bytes = terms, read_bytes + #packed
  end
  return terms
end

local function open(key, args)
  local found = redis.call('HMGET', key, 't', 'g', 'n', 'w', 'x')
  if not found[1] then
    return nil
  end
  return {
    key = key,
    now = args[1],
    batch = args[2],
    terms = terms_in(found[1]),
    at = key .. ':' .. found[2] .. ':',
    next = found[3] or '',
    asked = found[4] or '',
    again = found[5] or '',
    asking = '',
    rows = {}
  }
end

-- Tell the other processes of a change. The channel is that of the prefix; the name of the endpoint
-- is as it is in the key.
local function publish(key, is_revised)
  local at = string.find(key, '{', 1, true)
  local channel = string.sub(key, 1, at - 1) .. 'changes'
  redis.call('PUBLISH', channel, (is_revised and '1' or '0') .. string.sub(key, at + 1, -2))
end

-- Who has found nothing to do asks to be told: 'w' of what becomes available, 'h' of records.
local function ask(q, what)
  if not string.find(q.asked, what, 1, true) then
    q.asking = what
  end
end

local function finish(q)
  if q.sooner then
    redis.call('HSET', q.key, 'n', q.next)
  end
  local asked = q.asked
  local of_work = q.shown and string.find(asked, 'w', 1, true)
  if of_work or (q.noted and string.find(asked, 'h', 1, true)) then
    publish(q.key, false)
    redis.call('HSET', q.key, 'w', q.asking)
  elseif q.asking ~= '' then
    redis.call('HSET', q.key, 'w', asked .. q.asking)
  end
end

-- Make a function of the library. Those that may run while there is no memory left say allow-oom.
local function operation(name, flags, act)
  redis.register_function({
    function_name = 'LIBRARY_' .. name,
    flags = flags,
    callback = function(keys, args)
      local q = open(keys[1], args)
      if not q then
        return { 'no endpoint' }
      end
      -- One before it in the batch comes again: so does this one, or they would change places.
      if q.batch ~= '' and q.again == q.batch then
        return { 'again' }
      end
      local _, is_all = bring(q, AT_ONCE)
      local reply
      if is_all then
        reply = act(q, args)
      else
        reply = { 'again' }
        if q.batch ~= '' then
          redis.call('HSET', q.key, 'x', q.batch)
        end
      end
      finish(q)
      return reply
    end
  })
end

local function unknown(q, phase)
  return { 'no phase', phase, table.concat(q.terms.phases, '\0') }
end

-- A phase that is asked for comes with a letter before it, or is empty: of all.
local function wanted(text)
  if text == '' then
    return nil
  end
  return string.sub(text, 2)
end
