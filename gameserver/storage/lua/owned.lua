-- The shard's matches that are awake, with what their tokens say. Reads only.
-- The tokens' names are built here, from the index: they have the same hash tag, so they are where this runs.
-- KEYS: matches     ARGV: what a token's key begins with     Answers: 9 values per match
local answer = {}
for _, match in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local held = redis.pcall('HMGET', ARGV[1] .. match .. ':token', 'node', 'epoch', 'game', 'version', 'connected',
    'attempts', 'suspects', 'state_version')
  answer[#answer + 1] = match
  for i = 1, 8 do answer[#answer + 1] = held[i] or '' end
end
return answer
