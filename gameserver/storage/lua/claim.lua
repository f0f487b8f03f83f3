-- A new epoch goes to this node, if the match is still in the epoch that it saw.
-- It is the time in microseconds: a store that has forgotten epochs gives later ones all the same.
-- KEYS: token, matches, due, store
-- ARGV: match, node, expected epoch, by, random, how many bases are kept
local held = redis.pcall('HMGET', KEYS[1], 'state', 'epoch', 'node', 'version', 'attempts', 'by', 'bases', 'store',
  'suspects')
if held.err then return {'broken'} end
if not held[1] then
  local listed = redis.call('EXISTS', KEYS[1]) == 1 or redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1
  return {listed and 'broken' or 'absent'}
end
if held[1] ~= 'live' and held[1] ~= 'asleep' then return {held[1]} end
if not (tonumber(held[2] or '') and held[3] and tonumber(held[4] or '') and held[7]) then return {'broken'} end
if held[3] == ARGV[2] and held[6] == ARGV[4] then
  redis.call('HSET', KEYS[1], 'by', ARGV[4])
  return {'done', held[2], held[8], held[4], held[5] or '0', held[9] or '0'}
end
if held[2] ~= ARGV[3] then return {'lost', held[2], held[3]} end

local now = redis.call('TIME')
local epoch = string.format('%.0f', math.max(tonumber(held[2]) + 1, now[1] * 1000000 + now[2]))
local bases = {}
for base in string.gmatch(held[7], '%S+') do bases[#bases + 1] = base end
bases[#bases + 1] = epoch .. '=' .. held[4]
local kept = table.concat(bases, ' ', math.max(1, #bases - tonumber(ARGV[6]) + 1))
local attempts = string.format('%d', (tonumber(held[5] or '') or 0) + 1)
redis.call('SET', KEYS[4], ARGV[5], 'NX')
local store = redis.call('GET', KEYS[4])
redis.call('HSET', KEYS[1], 'state', 'live', 'node', ARGV[2], 'epoch', epoch, 'store', store, 'by', ARGV[4],
  'base', held[4], 'bases', kept, 'attempts', attempts)
redis.call('HDEL', KEYS[1], 'due_ms')
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return {'done', epoch, store, held[4], attempts, held[9] or '0'}
