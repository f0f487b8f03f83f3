-- The match is over: a tombstone stays.
-- KEYS: token, snapshot, journal, matches, due
-- ARGV: match, node, epoch, store, how long the tombstone stays (ms)
-- Answers 0 done, 1 fenced
local held = redis.pcall('HMGET', KEYS[1], 'node', 'epoch', 'store', 'state')
if held.err or held[2] ~= ARGV[3] or held[3] ~= ARGV[4] then return 1 end
if held[4] ~= 'ended' and held[1] ~= ARGV[2] then return 1 end

redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'state', 'ended', 'node', '', 'epoch', ARGV[3], 'store', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return 0
