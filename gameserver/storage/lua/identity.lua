-- Which store this is, and for how long: whoever asks first after a start notes the time.
-- A store that was never asked before has nothing that it could have lost.
-- KEYS: store, run
-- ARGV: random
-- Answers: run id, store, since when that run is asked (unix seconds), now
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local noted = redis.call('HMGET', KEYS[2], 'run', 'since')
if noted[1] ~= run then
  noted[2] = noted[1] and now or '0'
  redis.call('HSET', KEYS[2], 'run', run, 'since', noted[2])
end
return {run, redis.call('GET', KEYS[1]), noted[2], now}
