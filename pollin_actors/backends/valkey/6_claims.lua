-- Claims, what becomes of them, and moves.

local function next_at(q)
  local behind = ''
  if redis.call('EXISTS', q.at .. 'w') == 1 then
    -- When the one whose turn it is expires, the next is available.
    behind = first_of(q, 'j')
  end
  return earliest(first_of(q, 'l'), first_of(q, 'd'), behind)
end

-- Phase, limit, lease, by, the end of the tokens.
operation('claim', { 'allow-oom' }, function(q, args)
  local phase, limit = wanted(args[3]), tonumber(args[4])
  if phase and counted(q, phase) == 0 and not knows(q, phase) then
    return unknown(q, phase)
  end
  local till = plus(q.now, args[5])
  local numbers = available(q, phase, 0, limit)
  for _, number in ipairs(numbers) do
    local row = load(q, number)
    take(q, number, row)
    unexpects(q, number, row)
    row[TOKEN], row[BY], row[DUE], row[RETRY_AT] = number .. args[7], args[6], till, ''
    row[ATTEMPTS] = row[ATTEMPTS] + 1
    put(q, number, row)
    note(q, number, row, 'claimed', row[PHASE], row[PHASE], true, '')
    save(q, number, row)
  end
  if #numbers < limit then
    ask(q, 'w')
  end
  local claims = { till, next_at(q) }
  for _, number in ipairs(numbers) do
    claims[#claims + 1] = number .. args[7]
  end
  return { 'ok', claims, show(q, numbers) }
end)

-- An operation on a claim that holds: key and token, then what it says more. It gives the phase
-- into which the callback is wanted, if any.
local function of_claim(name, into, act)
  operation(name, { 'allow-oom' }, function(q, args)
    local phase = into and wanted(args[into])
    if phase and not knows(q, phase) then
      return unknown(q, phase)
    end
    local number, row = find(q, args[3])
    if not number or row[PLACE] ~= 'c' or row[TOKEN] ~= args[4] then
      return { 'lost' }
    end
    return act(q, number, row, args, phase) or { 'ok' }
  end)
end

-- Then, reason, whether to discard.
of_claim('ack', 5, function(q, number, row, args, phase)
  if args[7] ~= '' then
    remove(q, number, row, 'discarded', true, args[6])
  elseif phase then
    move(q, number, row, phase, 'acknowledged', true, args[6])
  else
    remove(q, number, row, 'acknowledged', true, args[6])
  end
end)

-- The phase of dead letters, reason, after how long it is tried again.
of_claim('nack', 5, function(q, number, row, args, phase)
  if phase then
    move(q, number, row, phase, 'dead', true, args[6])
    return
  end
  note(q, number, row, 'failed', row[PHASE], row[PHASE], true, args[6])
  give_back(q, number, row, args[7] ~= '' and plus(q.now, args[7]) or '')
end)

of_claim('release', nil, function(q, number, row)
  note(q, number, row, 'released', row[PHASE], row[PHASE], true, '')
  row[ATTEMPTS] = row[ATTEMPTS] - 1
  give_back(q, number, row, '')
end)

-- The lease.
of_claim('extend', nil, function(q, number, row, args)
  take(q, number, row)
  row[DUE] = plus(q.now, args[5])
  put(q, number, row)
  save(q, number, row)
  return { 'ok', row[DUE] }
end)

-- Key, phase, and the phase in which it is expected.
operation('update_phase', { 'allow-oom' }, function(q, args)
  local phase, expected = args[4], wanted(args[5])
  if not knows(q, phase) then
    return unknown(q, phase)
  end
  local number, row = nil, nil
  if args[3] ~= '' then
    number, row = find(q, wanted(args[3]))
  end
  if not number then
    return { 'no callback', '' }
  end
  if expected and expected ~= row[PHASE] then
    return { 'elsewhere', row[PHASE] }
  end
  if row[PHASE] ~= phase then
    move(q, number, row, phase, 'moved', false, '')
  end
  return show(q, { number }, { 'ok' })
end)

-- Key, or an empty text: the first that is available.
operation('pop', { 'allow-oom' }, function(q, args)
  local number, row
  if args[3] == '' then
    number = available(q, nil, 0, 1)[1]
    row = number and load(q, number)
  else
    number, row = find(q, wanted(args[3]))
  end
  if not number or row[PLACE] ~= 'a' then
    return { 'ok' }
  end
  local reply = show(q, { number }, { 'ok' })
  remove(q, number, row, 'popped', false, '')
  return reply
end)

-- Phase, offset, limit.
operation('pop_slice', { 'allow-oom' }, function(q, args)
  local phase = wanted(args[3])
  if phase and counted(q, phase) == 0 and not knows(q, phase) then
    return unknown(q, phase)
  end
  local numbers = available(q, phase, tonumber(args[4]), tonumber(args[5]))
  local reply = show(q, numbers, { 'ok' })
  for _, number in ipairs(numbers) do
    remove(q, number, load(q, number), 'popped', false, '')
  end
  return reply
end)

operation('delete', { 'allow-oom' }, function(q, args)
  local number, row = find(q, args[3])
  if not number then
    return { 'ok', '' }
  end
  remove(q, number, row, 'deleted', false, '')
  return { 'ok', '1' }
end)
