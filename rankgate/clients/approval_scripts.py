"""The changes of approvals, each one script: what it changes and the event that says so happen together or not at all.

Every key a script touches is passed to it, the ones of `Keys.common` first. Time is the server's, in milliseconds:
gates with other clocks agree on it. What cannot be read is taken to be absent.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from rankgate.approvals import OPEN, State, may_become

__all__ = [
    "CLOSE_REVIEW",
    "CONSUME",
    "EXPIRE",
    "JOIN",
    "OPEN_REVIEW",
    "OWN",
    "READ",
    "READY",
    "REVOKE",
    "SETTLE",
    "WAIT",
]
__all__ += ["Script"]


class Script(NamedTuple):
    """A script and the name the server knows it by."""

    text: str
    sha: str


OWN: Final = 12
"""How many keys come before a script's own."""

_AFTER = "".join(
    f"{state.value} = {{{', '.join(f'{after.value} = true' for after in State if may_become(state, after))}}}, "
    for state in State
)
_OPEN = ", ".join(f"{state.value} = true" for state in State if state in OPEN)

# Declared as a script of the present kind it is refused whole, before it begins, where it would be cut short: out of
# memory, on a replica, at a key of another slot.
_PRELUDE = f"""#!lua
local events, due, keep, revocations = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local index = {{{", ".join(f"{state.value} = KEYS[{place}]" for place, state in enumerate(State, 5))}}}
local after = {{{_AFTER}}}
local open = {{{_OPEN}}}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_COMMON = """
local function say(kind, id)
  redis.call('XADD', events, 'MAXLEN', '~', 10000, '*', 'kind', kind, 'approval', id)
end

-- A key lives as long as the longest of what is in it.
local function stretch(key, till)
  if redis.call('PEXPIRETIME', key) < till then redis.call('PEXPIREAT', key, till) end
end

local function become(record, id, was, to, kind)
  redis.call('HSET', record, 'state', to, 'changed', now)
  redis.call('HINCRBY', record, 'revision', 1)
  if was ~= to then
    redis.call('ZREM', index[was], id)
    redis.call('ZADD', index[to], 0, id)
    stretch(index[to], redis.call('PEXPIRETIME', record))
    if not open[to] then redis.call('ZREM', due, id) end
  end
  say(kind, id)
end

-- What a command answers; nil for a key of another type, which is none of ours. Any other failure is one.
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer) end
  return nil
end

local function whole(text)
  return text and #text < 16 and string.find(text, '^%d+$')
end

-- What is known of a record, nil where there is none that can be read. One past its time expires here.
local function look(record, id)
  local found = try('HMGET', record, 'state', 'expires', 'revision', 'requirement', 'used_by')
  if not found or not index[found[1]] or not whole(found[2]) or not whole(found[3]) then return nil end
  local known = {state = found[1], expires = tonumber(found[2]), revision = tonumber(found[3]),
                 requirement = found[4], used_by = found[5] or ''}
  if open[known.state] and now >= known.expires then
    become(record, id, known.state, 'expired', 'expired')
    known.state = 'expired'
  end
  return known
end

-- A record's fields, and the revocations of those who voted on it.
local function show(record)
  local fields = try('HGETALL', record) or {}
  local revoked = {}
  for place = 1, #fields, 2 do
    if string.sub(fields[place], 1, 5) == 'vote:' then
      local statement = redis.call('HGET', revocations, string.sub(fields[place], 6))
      if statement then table.insert(revoked, statement) end
    end
  end
  return {fields, revoked}
end

-- The indices forget what the server has forgotten.
local function prune()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keep, '-inf', now, 'LIMIT', 0, 100)) do
    for place = 5, 12 do redis.call('ZREM', KEYS[place], id) end
    redis.call('ZREM', due, id)
    redis.call('ZREM', keep, id)
  end
end
"""


def _script(text: str) -> Script:
    whole = _PRELUDE + _COMMON + text
    return Script(whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest())


READ: Final = _script("return show(KEYS[13])")
"""Keys: record. Returns its fields and the revocations that may matter."""

JOIN: Final = _script("""
local record, bond, asked, denied, subject, tenant = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17], KEYS[18]
local id, body, mac, expires, requirement = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local ids, caps, history = {ARGV[6], ARGV[7], ARGV[8]}, {tonumber(ARGV[9]), tonumber(ARGV[10])}, tonumber(ARGV[11])
local use = ARGV[12]

-- The records behind these names were passed by who read the names a moment ago.
for place, key in ipairs({bond, asked, denied}) do
  if (redis.call('GET', key) or '') ~= ids[place] then return {'again'} end
end
local bound, pending, refused = KEYS[19], KEYS[20], KEYS[21]
prune()

local function supersede(old, its, was)
  become(old, its, was, 'cancelled', 'cancelled')
  redis.call('HSET', old, 'note', 'superseded')
  redis.call('ZREM', subject, its)
  redis.call('ZREM', tenant, its)
end

local same = look(bound, ids[1])
if same and open[same.state] then
  if same.requirement == requirement then return {'joined', ids[1], show(bound)} end
  supersede(bound, ids[1], same.state)
end
local no = look(refused, ids[3])
if no and no.state == 'denied' and now < no.expires then return {'denied', ids[3], show(refused)} end
local other = look(pending, ids[2])
if other and other.state == 'pending' then
  if redis.call('HGET', pending, 'use') ~= use then return {'variant', ids[2], show(pending)} end
  -- The very same request, of which something else would be made by now.
  supersede(pending, ids[2], other.state)
end

for place, key in ipairs({subject, tenant}) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= caps[place] then return {'full'} end
end
if redis.call('EXISTS', record) == 1 then return {'again'} end

local till = expires + history
redis.call('HSET', record, 'body', body, 'mac', mac, 'state', 'pending', 'expires', expires, 'revision', 0,
           'requirement', requirement, 'use', use, 'changed', now)
redis.call('PEXPIREAT', record, till)
redis.call('SET', bond, id, 'PXAT', till)
redis.call('SET', asked, id, 'PXAT', till)
for _, key in ipairs({subject, tenant, due}) do
  redis.call('ZADD', key, expires, id)
  stretch(key, till)
end
redis.call('ZADD', keep, till, id)
redis.call('ZADD', index.pending, 0, id)
stretch(keep, till)
stretch(index.pending, till)
say('opened', id)
return {'opened', id, show(record)}
""")
"""Keys: new record, bond, asked, denied, subject, tenant, and the records that the three names led to.

Arguments: id, body, MAC, expiry, requirement, the three ids, the two caps, the time that history is kept, use digest.
Returns what was met, its id, and the record; `again` where the names lead elsewhere by now.
"""

WAIT: Final = _script("""
for place, decision in ipairs(ARGV) do
  redis.call('ZADD', KEYS[12 + place], now, decision)
  redis.call('PEXPIRE', KEYS[12 + place], 10000)
end
""")
"""Keys: the waiters of each approval. Arguments: a decision id for each."""

CONSUME: Final = _script("""
local record, waiters = KEYS[13], KEYS[14]
local id, decision, stale = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- By bytes: the comparison of the language follows the server's locale.
local function younger(one, other)
  for place = 1, math.min(#one, #other) do
    local left, right = string.byte(one, place), string.byte(other, place)
    if left ~= right then return left > right end
  end
  return #one > #other
end

redis.call('ZREMRANGEBYSCORE', waiters, '-inf', now - stale)
local known = look(record, id)
if not known then return 'gone' end
if known.state == 'consumed' then return known.used_by == decision and 'spent' or 'used' end
if known.state ~= 'approved' then return 'gone' end
for _, waiter in ipairs(redis.call('ZRANGE', waiters, 0, -1)) do
  if younger(waiter, decision) then return 'younger' end
end
redis.call('HSET', record, 'used_by', decision)
become(record, id, 'approved', 'consumed', 'consumed')
return 'spent'
""")
"""Keys: record, waiters. Arguments: id, decision id, milliseconds after which a waiter is taken to be gone."""

SETTLE: Final = _script("""
local record, asked, denied, subject, tenant = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local id, revision, state, kind = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local person, statement, note = ARGV[5], ARGV[6], ARGV[7]

local had = try('HGET', record, 'state') or ''
local known = look(record, id)
if not known then return 'closed' end
if not open[known.state] then
  -- What was to be marked as expired has just been.
  return state == 'expired' and known.state == state and open[had] and 'done' or 'closed'
end
if known.revision ~= revision then return 'stale' end
-- Only a caller uses an approval up.
if state == 'consumed' or not (state == known.state or after[known.state][state]) then return 'closed' end

if person ~= '' and statement ~= '' then redis.call('HSET', record, 'vote:' .. person, statement) end
if person ~= '' and statement == '' then redis.call('HDEL', record, 'vote:' .. person) end
if note ~= '' then redis.call('HSET', record, 'note', note) end
become(record, id, known.state, state, kind)

local till = redis.call('PEXPIRETIME', record)
for _, key in ipairs({subject, tenant}) do
  if state == 'pending' then
    redis.call('ZADD', key, known.expires, id)
    stretch(key, till)
  else
    redis.call('ZREM', key, id)
  end
end
if state == 'pending' then redis.call('SET', asked, id, 'PXAT', till) end
if state == 'denied' and redis.call('PEXPIRETIME', denied) < known.expires then
  redis.call('SET', denied, id, 'PXAT', known.expires)
end
return 'done'
""")
"""Keys: record, asked, denied, subject, tenant. Arguments: id, revision, state, kind, person, statement, note."""

REVOKE: Final = _script("""
-- As long as anything that is open now can be used.
local last = redis.call('ZRANGE', due, -1, -1, 'WITHSCORES')
redis.call('HSET', revocations, ARGV[1], ARGV[2])
stretch(revocations, math.max(now + tonumber(ARGV[3]), tonumber(last[2] or 0)))
say('revoked', '')
""")
"""Arguments: person, statement, the time that history is kept."""

EXPIRE: Final = _script("""
local count = 0
prune()
for place, id in ipairs(ARGV) do
  local record = KEYS[12 + place]
  local had = try('HGET', record, 'state') or ''
  local known = look(record, id)
  if known and known.state == 'expired' and open[had] then count = count + 1 end
  if known and open[known.state] then
    redis.call('ZADD', due, known.expires, id)
  else
    redis.call('ZREM', due, id)
  end
end
return count
""")
"""Keys: records. Arguments: their ids. Returns how many expired."""

OPEN_REVIEW: Final = _script("""
local record, broken = KEYS[13], KEYS[14]
local id, limit, within, history = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
prune()
if redis.call('EXISTS', record) == 1 then return 1 end
redis.call('ZREMRANGEBYSCORE', broken, '-inf', now - within)
if redis.call('ZCARD', broken) >= limit then return 0 end
redis.call('HSET', record, 'body', ARGV[2], 'mac', ARGV[3])
redis.call('PEXPIREAT', record, now + history)
redis.call('ZADD', broken, now, id)
stretch(broken, now + within)
redis.call('ZADD', keep, now + history, id)
redis.call('ZADD', KEYS[11], 0, id)
stretch(keep, now + history)
stretch(KEYS[11], now + history)
say('review_opened', id)
return 1
""")
"""Keys: review item, what the subject broke. Arguments: id, body, MAC, limit, within, the time that history is kept."""

CLOSE_REVIEW: Final = _script("""
local record, id, history = KEYS[13], ARGV[1], tonumber(ARGV[4])
if redis.call('EXISTS', record) == 0 or redis.call('HEXISTS', record, 'closed') == 1 then return 'closed' end
redis.call('HSET', record, 'closed', now, 'closed_by', ARGV[2], 'closed_reason', ARGV[3])
redis.call('PEXPIREAT', record, now + history)
redis.call('ZADD', keep, now + history, id)
redis.call('ZREM', KEYS[11], id)
redis.call('ZADD', KEYS[12], 0, id)
stretch(keep, now + history)
stretch(KEYS[12], now + history)
say('review_closed', id)
return 'done'
""")
"""Keys: review item. Arguments: id, by, reason, the time that history is kept."""

READY: Final = _script("redis.call('SET', KEYS[13], now, 'PX', 60000)")
"""Keys: one of no other use. Fails wherever changes would fail: out of memory, a replica, no permission."""
