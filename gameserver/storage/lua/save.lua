-- The snapshot, and the journal trimmed behind it.
-- KEYS: token, snapshot, journal
-- ARGV: node, epoch, store, version, game, state_version, now_ms, payload, first version of the journal that stays
-- Answers 0 done, 1 fenced, 2 gap
local held = redis.pcall('HMGET', KEYS[1], 'node', 'epoch', 'store', 'version', 'base')
local stored, first = tonumber(held[4] or ''), tonumber(held[5] or '')
if held.err or held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] ~= ARGV[3] or not stored or not first then
  return 1
end
local version = tonumber(ARGV[4])
if version < first then return 2 end
local snapshot_type, journal_type = redis.call('TYPE', KEYS[2]).ok, redis.call('TYPE', KEYS[3]).ok
local last = snapshot_type == 'hash' and tonumber(redis.call('HGET', KEYS[2], 'version') or '')

redis.call('HSET', KEYS[1], 'attempts', '0')
if last and last > version then return 0 end
if snapshot_type ~= 'hash' then redis.call('DEL', KEYS[2]) end
redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'version', ARGV[4], 'game', ARGV[5], 'state_version', ARGV[6],
  'saved_at_ms', ARGV[7], 'payload', ARGV[8])
if journal_type == 'stream' then
  redis.call('XTRIM', KEYS[3], 'MINID', ARGV[9] .. '-0')
else
  redis.call('DEL', KEYS[3])
end
redis.call('HSET', KEYS[1], 'state_version', ARGV[6], 'version', version > stored and ARGV[4] or held[4])
return 0
