-- The owner lets go.
-- KEYS: token, matches, due
-- ARGV: match, node, epoch, store, "1" if it sleeps, when it is due (or "")
-- Answers 0 done, 1 fenced
local held = redis.pcall('HMGET', KEYS[1], 'node', 'epoch', 'store', 'state')
if held.err or held[2] ~= ARGV[3] or held[3] ~= ARGV[4] then return 1 end
if held[4] ~= 'live' and held[4] ~= 'asleep' then return 1 end
if held[1] ~= ARGV[2] and held[1] ~= '' then return 1 end

local asleep = ARGV[5] == '1'
redis.call('HSET', KEYS[1], 'node', '', 'state', asleep and 'asleep' or 'live', 'connected', '0')
if asleep then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[3], ARGV[6] == '' and '+inf' or ARGV[6], ARGV[1])
  if ARGV[6] == '' then
    redis.call('HDEL', KEYS[1], 'due_ms')
  else
    redis.call('HSET', KEYS[1], 'due_ms', ARGV[6])
  end
else
  redis.call('SADD', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return 0
