-- A node's lease. The id of a live node is not given to a second process.
-- KEYS: the node's key     ARGV: when the process started, what it says, ttl_ms     Answers 1 renewed, 0 taken
local held = redis.call('HGET', KEYS[1], 'started')
if held and held ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'started', ARGV[1], 'info', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
