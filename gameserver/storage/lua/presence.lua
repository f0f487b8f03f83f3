-- Members of sorted sets that say until when each of them counts; a set lives as long as the last of them.
-- KEYS: sets
-- ARGV: now, until when these count (both unix ms), then for each set how many members are written, and the members
local now, until_ms, at = ARGV[1], ARGV[2], 3
local ttl_ms = until_ms - now
for i = 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  for j = at + 1, at + ARGV[at] do redis.call('ZADD', KEYS[i], until_ms, ARGV[j]) end
  at = at + ARGV[at] + 1
  -- Never shorter than what another node asked for.
  redis.call('PEXPIRE', KEYS[i], ttl_ms, 'NX')
  redis.call('PEXPIRE', KEYS[i], ttl_ms, 'GT')
end
return 0
