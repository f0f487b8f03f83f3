-- Counts a match whose code did not return, once per epoch; an empty reason clears the count.
-- KEYS: token
-- ARGV: node, epoch, store, reason
-- Answers 0 done, 1 fenced
local held = redis.pcall('HMGET', KEYS[1], 'node', 'epoch', 'store', 'suspect_epoch')
if held.err or held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] ~= ARGV[3] then return 1 end
if ARGV[4] == '' then
  redis.call('HSET', KEYS[1], 'suspects', '0')
  redis.call('HDEL', KEYS[1], 'suspect_epoch', 'suspect_reason')
elseif held[4] ~= ARGV[2] then
  redis.call('HINCRBY', KEYS[1], 'suspects', 1)
  redis.call('HSET', KEYS[1], 'suspect_epoch', ARGV[2], 'suspect_reason', ARGV[4])
end
return 0
