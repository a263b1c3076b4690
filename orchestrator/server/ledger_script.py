"""The ledger of one bucket's day (`core/ledger.py`) inside Redis: the same rules in Lua, each operation atomic.

Three keys in one cluster slot:

    :day      hash: settled, reserved, version, restored, epoch
    :leases   sorted set: replicas by when they stop counting as alive (Unix milliseconds)
    :holders  hash: holder to "replica number counted running ahead"

Lua's numbers are floating point, exact up to 2**53 (`core.ledger.MOST`): differences are taken first, and numbers are
written with `int`, because `tostring` keeps 14 digits. Holders are looked through only when a replica has died.
"""

from __future__ import annotations

_BEGIN = """
local function int(number) return string.format('%.0f', number) end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local day = redis.call('HMGET', KEYS[1], 'settled', 'reserved', 'version', 'restored', 'epoch')
local settled, reserved = tonumber(day[1] or '0'), tonumber(day[2] or '0')
local version, restored, epoch = tonumber(day[3] or '0'), tonumber(day[4] or '0'), day[5]
local before = version

local function parse(value)
  local replica, number, counted, running, ahead = string.match(value, '^(%S+) (%d+) (%d+) (%d+) (%d+)$')
  return replica, tonumber(number), tonumber(counted), tonumber(running), tonumber(ahead)
end

local function keep(holder, replica, number, counted, running, ahead)
  local value = replica .. ' ' .. int(number) .. ' ' .. int(counted) .. ' ' .. int(running) .. ' ' .. int(ahead)
  redis.call('HSET', KEYS[3], holder, value)
end

local function expire()
  local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. int(now))
  if #dead == 0 then return end
  local gone = {}
  for _, replica in ipairs(dead) do
    gone[replica] = true
    redis.call('ZREM', KEYS[2], replica)
  end
  local holders = redis.call('HGETALL', KEYS[3])
  for i = 1, #holders, 2 do
    local replica, number, counted, running, ahead = parse(holders[i + 1])
    if gone[replica] and running + ahead > 0 then
      version = version + 1
      settled = settled + running
      reserved = reserved - running - ahead
      keep(holders[i], replica, number, counted + running, 0, 0)
    end
  end
end

local function heard(replica, lease)
  return redis.call('ZADD', KEYS[2], int(now + lease), replica)
end

local function done(ttl, ahead, alive)
  if version ~= before then
    redis.call('HSET', KEYS[1], 'settled', int(settled), 'reserved', int(reserved), 'version', int(version),
      'restored', int(restored), 'epoch', epoch)
  end
  for _, key in ipairs(ttl ~= '' and KEYS or {}) do redis.call('PEXPIRE', key, ttl) end
  return {int(ahead), int(settled), int(reserved), epoch or '', int(version), alive}
end

expire()
"""

CLAIM = (
    _BEGIN
    + """
local lease, ttl, cap, fresh = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local holder, replica, number = ARGV[6], ARGV[7], tonumber(ARGV[8])
local spent, starting, wanted = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local known_epoch, known_settled, known_counted = ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14])

epoch = epoch or fresh
heard(replica, lease)
version = version + 1

-- What the caller knows of a ledger that was lost.
local from_before = known_epoch ~= '' and known_epoch ~= epoch
if from_before and known_settled > restored then
  settled = settled + (known_settled - restored)
  restored = known_settled
end

local last, counted, running, ahead = 0, from_before and known_counted or 0, 0, 0
local value = redis.call('HGET', KEYS[3], holder)
if value then
  local _
  _, last, counted, running, ahead = parse(value)
end
if number >= last then
  local kept = math.max(0, ahead - math.max(0, (spent - counted) + (starting - running)))
  settled = settled + (spent - counted)
  reserved = reserved + (starting - running - ahead)
  local room = cap and cap - settled - reserved or wanted
  if room >= wanted then ahead = wanted else ahead = math.max(0, math.min(kept, wanted, room)) end
  reserved = reserved + ahead
  keep(holder, replica, number, spent, starting, ahead)
end
return done(ttl, ahead, 1)
"""
)
"""ARGV: now or "", lease, ttl, cap or "", epoch if new, holder, replica, number, the claim's 3, the known's 3."""

RENEW = (
    _BEGIN
    + """
for i = 5, #ARGV do
  local value = redis.call('HGET', KEYS[3], ARGV[i])
  if value then
    local _, _, _, running, ahead = parse(value)
    if running + ahead == 0 then redis.call('HDEL', KEYS[3], ARGV[i]) end
  end
end
if not epoch then return {'0', '0', '0', '', '0', 0} end
return done(ARGV[3], 0, 1 - heard(ARGV[4], tonumber(ARGV[2])))
"""
)
"""ARGV: now or "", lease, ttl, replica, holders to forget."""

STANDING = (
    _BEGIN
    + """
return done('', 0, 1)
"""
)
"""ARGV: now or ""."""
