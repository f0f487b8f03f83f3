-- A new match: token, first snapshot, index. An id that is or was in use is refused.
-- KEYS: token, snapshot, journal, matches, store, ended
-- ARGV: match, node, by, random, version, game, state_version, now_ms, payload, connected
local held = redis.pcall('HMGET', KEYS[1], 'by', 'epoch', 'node', 'store')
if held.err then return {'exists'} end
if held[1] == ARGV[3] and held[2] == '1' and held[3] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'by', ARGV[3])
  return {'done', held[4]}
end
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[6]) > 0 then return {'exists'} end

redis.call('SET', KEYS[5], ARGV[4], 'NX')
local store = redis.call('GET', KEYS[5])
redis.call('HSET', KEYS[1], 'state', 'live', 'node', ARGV[2], 'epoch', '1', 'store', store, 'by', ARGV[3],
  'version', ARGV[5], 'base', ARGV[5], 'bases', '1=' .. ARGV[5], 'game', ARGV[6], 'connected', ARGV[10],
  'attempts', '0', 'suspects', '0', 'state_version', ARGV[7])
redis.call('HSET', KEYS[2], 'epoch', '1', 'version', ARGV[5], 'game', ARGV[6], 'state_version', ARGV[7],
  'saved_at_ms', ARGV[8], 'payload', ARGV[9])
redis.call('SADD', KEYS[4], ARGV[1])
return {'done', store}
