-- Appends entries of many matches. Each is checked and written by itself; a refused one stops no other.
-- KEYS: token and journal of each entry
-- ARGV: "1" if replicas are waited for; then node, epoch, store, base, version, entry, connected of each entry
-- Answers per entry: 0 done, 1 fenced, 2 gap
local answers = {}
for i = 1, #KEYS / 2 do
  local token, journal, at = KEYS[2 * i - 1], KEYS[2 * i], 7 * (i - 1) + 1
  local node, epoch, store = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local base, version, connected = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), ARGV[at + 7]
  local held = redis.pcall('HMGET', token, 'node', 'epoch', 'store', 'version', 'base')
  local stored, first = tonumber(held[4] or ''), tonumber(held[5] or '')
  if held.err or held[1] ~= node or held[2] ~= epoch or held[3] ~= store or not stored or not first then
    answers[i] = 1
  elseif base < first or base > stored then
    -- Before this epoch's first version it has written nothing; after the stored one something is missing.
    answers[i] = 2
  elseif version <= stored then
    -- Appended before. A write all the same where replicas are waited for: they are waited for up to here.
    if ARGV[1] == '1' then redis.call('HSET', token, 'version', held[4]) end
    answers[i] = 0
  else
    local added = redis.pcall('XADD', journal, ARGV[at + 5] .. '-0', 'e', ARGV[at + 6])
    if type(added) == 'table' and added.err then
      -- Something foreign is in the journal's place: a snapshot puts it right. Anything else concerns the whole store.
      if not (string.find(added.err, 'WRONGTYPE', 1, true) or string.find(added.err, 'equal or smaller', 1, true)) then
        return added
      end
      answers[i] = 2
    elseif connected == '' then
      redis.call('HSET', token, 'version', ARGV[at + 5])
      answers[i] = 0
    else
      redis.call('HSET', token, 'version', ARGV[at + 5], 'connected', connected)
      answers[i] = 0
    end
  end
end
return answers
