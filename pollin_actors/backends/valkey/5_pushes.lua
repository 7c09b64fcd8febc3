-- Pushing: first all is looked at, then all is done. What is refused has changed nothing.

local MAX_REPEATS = 20
local FIELDS = 10
-- So often a push forgets what is due, and twice as many: so that it never piles up.
local FORGET_EVERY = 64

-- The step or the number of what is queued with a name, and its row.
local function queued_as(q, news, name)
  if news[name] then
    return news[name], news[name].row
  end
  local number = redis.call('HGET', q.at .. 'r', name)
  local row = number and load(q, number)
  if row and QUEUED[row[PLACE]] then
    return number, row
  end
  -- What has left and is remembered.
  if row and row[REMEMBERED] > q.now then
    return nil, row
  end
  return nil, nil
end

local function root_of(q, news, parent)
  local step, row = queued_as(q, news, 'i' .. parent)
  if not step then
    local number = last_kept(q, 'i' .. parent)
    row = number and load(q, number)
  end
  if not row then
    return nil
  end
  return row[ROOT] ~= '' and row[ROOT] or row[ID]
end

-- What is too much if this is added, how much there is, and the limit.
local function overflow(q, phase, size, sum)
  local terms = q.terms
  if #terms.consumes > 0 and not consumes(q, phase) then
    return nil
  end
  local limited = #terms.consumes > 0 and terms.consumes or phases_in_use(q)
  local held, bytes = sum.held, sum.bytes
  for _, name in ipairs(limited) do
    held, bytes = held + counted(q, name), bytes + measured(q, name)
  end
  if terms.capacity ~= '' and held >= tonumber(terms.capacity) then
    return { 'full', 'callbacks', int(held), terms.capacity }
  end
  if terms.capacity_bytes ~= '' and bytes + size > tonumber(terms.capacity_bytes) then
    return { 'full', 'bytes', int(bytes), terms.capacity_bytes }
  end
  sum.held, sum.bytes = sum.held + 1, sum.bytes + size
  return nil
end

-- The steps of the pushes from that argument on, or the refusal of one of them.
local function plan(q, args, first)
  local steps, news, sum, terms = {}, {}, { held = 0, bytes = 0 }, q.terms
  for at = first, #args, FIELDS do
    local id, phase, parent, order, not_before = unpack(args, at, at + 4)
    local fence, origin, size, body, problem = unpack(args, at + 5, at + 9)
    size = tonumber(size)
    if phase == '' then
      phase = terms.phases[1]
    elseif not knows(q, phase) then
      return nil, unknown(q, phase)
    end
    local known, row = queued_as(q, news, 'i' .. id)
    local remembered = not known and row
    if not known and fence ~= '' then
      known, row = queued_as(q, news, 'f' .. fence)
      remembered = remembered or (not known and row)
    end
    local step
    if known then
      step = { known = known, id = id }
    elseif remembered then
      local kept = last_kept(q, 'i' .. id) or (fence ~= '' and last_kept(q, 'f' .. fence)) or nil
      step = { kept = kept, id = id }
    else
      local root = ''
      if parent ~= '' then
        root = root_of(q, news, parent)
        if not root then
          return nil, { 'no callback', parent }
        end
      end
      if terms.capacity ~= '' or terms.capacity_bytes ~= '' then
        local refusal = overflow(q, phase, size, sum)
        if refusal then
          return nil, refusal
        end
      end
      if problem ~= '' then
        return nil, { 'not storable', int((at - first) / FIELDS) }
      end
      step = {
        row = {
          id, phase, 'a', expiry(q, phase), terms.dedup ~= '' and plus(q.now, terms.dedup) or '',
          terms.keep, q.now, phase, 0, '', '', '', '', 0, '', size, order, not_before, fence,
          parent, root, origin, 0
        },
        body = body
      }
      news['i' .. id] = step
      if fence ~= '' then
        news['f' .. fence] = step
      end
    end
    steps[#steps + 1] = step
  end
  return steps
end

local function add(q, step)
  local row = step.row
  local at = position(q)
  local number = int(at)
  row[ENTERED] = at
  q.rows[number], step.number = row, number
  redis.call('ZADD', q.at .. 'q', number, number)
  measure(q, row[PHASE], row[SIZE])
  enter(q, number, row)
  expects(q, number, row)
  if row[PARENT] ~= '' then
    redis.call('ZADD', q.at .. 'k', 0, row[PARENT] .. '\0' .. padded(number))
  end
  if row[KEEP] ~= '' then
    redis.call('XADD', q.at .. 'h', number .. '-0', 'p', '')
    q.noted = true
  end
  local key, packed = q.at .. 'r', cmsgpack.pack(row)
  if row[FENCE] == '' then
    redis.call('HSET', key, 'i' .. row[ID], number, 'b' .. number, step.body, 'r' .. number, packed)
  else
    redis.call(
      'HSET', key, 'i' .. row[ID], number, 'f' .. row[FENCE], number, 'b' .. number, step.body,
      'r' .. number, packed
    )
  end
  if at % FORGET_EVERY == 0 then
    forget(q, 2 * FORGET_EVERY)
  end
  return { 'queued', row[PHASE], row[ROOT] }
end

-- Write down that the same came again.
local function repeated(q, number, id)
  local row = load(q, number)
  if row and row[KEEP] ~= '' and row[REPEATS] < MAX_REPEATS then
    local phase = QUEUED[row[PLACE]] and row[PHASE] or ''
    local reason = ''
    if row[ID] ~= id then
      reason = 'another id, same fence: ' .. id
    end
    row[REPEATS] = row[REPEATS] + 1
    note(q, number, row, 'repeated', phase, phase, false, reason)
    save(q, number, row)
  end
  return row
end

local function carry_out(q, steps)
  local reply = { 'ok' }
  for _, step in ipairs(steps) do
    if step.row then
      reply[#reply + 1] = add(q, step)
    elseif step.known then
      local number = type(step.known) == 'table' and step.known.number or step.known
      local row = repeated(q, number, step.id)
      reply[#reply + 1] = { 'known', shown(row), body_of(q, number) }
    else
      if step.kept then
        repeated(q, step.kept, step.id)
      end
      reply[#reply + 1] = { 'remembered' }
    end
  end
  return reply
end

-- Whether this is the digest of one of the endpoint's secrets.
local function accepts(q, digest)
  if digest == '*' then
    return true
  end
  for _, secret in ipairs(q.terms.secrets) do
    if digest == secret[1] and (secret[2] == '' or secret[2] > q.now) then
      return true
    end
  end
  return false
end

operation('push', {}, function(q, args)
  if not accepts(q, args[3]) then
    return { 'wrong secret' }
  end
  local steps, refusal = plan(q, args, 4)
  if not steps then
    return refusal
  end
  return carry_out(q, steps)
end)

operation('find_cursor', { 'allow-oom' }, function(q, args)
  return { 'ok', redis.call('HGET', q.at .. 'y', args[3]) or '0' }
end)

-- Name, position, and where it is expected or an empty text.
operation('move_cursor', {}, function(q, args)
  local found = redis.call('HGET', q.at .. 'y', args[3]) or '0'
  if args[5] ~= '' and args[5] ~= found then
    return { 'moved', found }
  end
  local steps, refusal = plan(q, args, 6)
  if not steps then
    return refusal
  end
  local reply = carry_out(q, steps)
  redis.call('HSET', q.at .. 'y', args[3], args[4])
  return reply
end)
