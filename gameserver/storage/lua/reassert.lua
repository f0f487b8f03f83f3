-- An owner puts its match back into a store that was rewound or emptied. The higher (epoch, version) wins.
-- KEYS: token, snapshot, journal, matches, due, store
-- ARGV: match, node, old epoch, old store, next epoch, by, random, version, game, state_version, now_ms, payload, bases
local held = redis.pcall('HMGET', KEYS[1], 'state', 'epoch', 'node', 'version', 'by', 'store')
local wrong_type = held.err ~= nil
if not wrong_type and held[1] then
  if held[1] ~= 'live' and held[1] ~= 'asleep' then return {held[1]} end
  local epoch, version = tonumber(held[2] or '') or 0, tonumber(held[4] or '') or 0
  local ours, our_version = tonumber(ARGV[3]), tonumber(ARGV[8])
  local same_owner = held[3] == ARGV[2]
  if held[2] == ARGV[5] and same_owner and held[5] == ARGV[6] then
    -- Put back by an earlier try. If the match has gone on since, what it has now is stored in its place.
    if version >= our_version then
      redis.call('HSET', KEYS[1], 'by', ARGV[6])
      return {'done', held[6]}
    end
  elseif epoch > ours or (epoch == ours and (version > our_version or (version == our_version and not same_owner))) then
    return {'lost', held[2], held[3] or ''}
  end
end

redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[6], ARGV[7], 'NX')
local store = redis.call('GET', KEYS[6])
redis.call('HSET', KEYS[1], 'state', 'live', 'node', ARGV[2], 'epoch', ARGV[5], 'store', store, 'by', ARGV[6],
  'version', ARGV[8], 'base', ARGV[8], 'bases', ARGV[13], 'game', ARGV[9], 'connected', '0',
  'attempts', '0', 'suspects', '0', 'state_version', ARGV[10])
redis.call('HSET', KEYS[2], 'epoch', ARGV[5], 'version', ARGV[8], 'game', ARGV[9], 'state_version', ARGV[10],
  'saved_at_ms', ARGV[11], 'payload', ARGV[12])
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return {'done', store}
