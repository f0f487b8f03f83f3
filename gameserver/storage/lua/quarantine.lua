-- All of a match is moved aside. Its token stays, refuses everybody and says where the rest is.
-- KEYS: token, snapshot, journal, matches, due, quarantined; then where snapshot, journal and a broken token go
-- ARGV: match, reason, now_ms, the epoch it must have (or "")
local token_type = redis.call('TYPE', KEYS[1]).ok
local held = {}
if token_type == 'hash' then held = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'moved_to') end
if held[1] == 'quarantined' then return {'done', held[3] or ''} end
if held[1] == 'ended' then return {'ended'} end
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0 then
  redis.call('SREM', KEYS[4], ARGV[1])
  return {'absent'}
end
if ARGV[4] ~= '' and held[2] and held[2] ~= ARGV[4] then return {'changed'} end

if token_type ~= 'hash' and token_type ~= 'none' then redis.call('RENAME', KEYS[1], KEYS[9]) end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[7]) end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[8]) end
local moved_type = redis.call('TYPE', KEYS[7]).ok
if moved_type == 'hash' or moved_type == 'none' then redis.call('HSET', KEYS[7], 'reason', ARGV[2]) end
redis.call('HSET', KEYS[1], 'state', 'quarantined', 'node', '', 'reason', ARGV[2], 'quarantined_at_ms', ARGV[3],
  'moved_to', KEYS[7])
redis.call('SADD', KEYS[6], KEYS[7])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return {'moved', KEYS[7]}
