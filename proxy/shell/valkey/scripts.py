"""Lua scripts that the store runs in one step; each is sent in full, so that a restarted store knows it too."""

from __future__ import annotations

from typing import Final

from proxy.shell.valkey.link import Command

_BEAT: Final = """
local secret = redis.call('GET', KEYS[1])
if secret and secret ~= ARGV[1] then return {'other'} end
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'EX', 60)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[3], ms, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, ms - ARGV[3])
redis.call('PEXPIRE', KEYS[3], 60000)
redis.call('XTRIM', KEYS[4], 'MAXLEN', '~', ARGV[4])
return {now[1], now[2], redis.call('ZRANGE', KEYS[3], 0, -1)}
"""

_LOOK_OR_LEAD: Final = """
local entry = redis.call('GET', KEYS[1])
if entry then return {entry} end
return {false, redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2], 'GET')}
"""

_LAND: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
redis.call('DEL', KEYS[1])
return 1
"""

_RELEASE: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

_TAKE_OVER: Final = """
local held = redis.call('GET', KEYS[1])
if held and (held ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1) then return held end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
"""

_PACE: Final = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local next = tonumber(redis.call('GET', KEYS[1]) or '0')
if next > ms then return next - ms end
redis.call('SET', KEYS[1], ms + ARGV[1], 'PX', 60000)
return 0
"""


def beat(
    keys: tuple[bytes, bytes, bytes, bytes], secret: bytes, replica: bytes, alive_ms: int, longest: int
) -> Command:
    """Return the command that renews *replica*'s sign of life; its reply: the time and live replicas, or `other`."""
    return (b"EVAL", _BEAT, 4, *keys, secret, replica, alive_ms, longest)


def look_or_lead(entry: bytes, lease: bytes, *, mine: bytes, ms: int) -> Command:
    """Return the command that reads *entry*; without an entry it takes the lease, or gives the lease of another."""
    return (b"EVAL", _LOOK_OR_LEAD, 2, entry, lease, mine, ms)


def land(
    lease: bytes,
    entry: bytes,
    outcome: bytes,
    *,
    mine: bytes,
    entry_value: tuple[bytes, int],
    outcome_value: tuple[bytes, int],
) -> Command:
    """Return the command that ends a flight if the lease is still *mine*.

    The command writes *entry_value* to *entry* and *outcome_value* to *outcome*, each for its milliseconds.
    """
    return (b"EVAL", _LAND, 3, lease, entry, outcome, mine, *entry_value, *outcome_value)


def release(lease: bytes, mine: bytes) -> Command:
    """Return the command that gives a lease back, if it is still *mine*."""
    return (b"EVAL", _RELEASE, 1, lease, mine)


def take_over(lease: bytes, holder: bytes, *, theirs: bytes, mine: bytes, ms: int) -> Command:
    """Return the command that takes a lease from a dead *holder*; it gives the lease that is then in force."""
    return (b"EVAL", _TAKE_OVER, 2, lease, holder, theirs, mine, ms)


def pace(limit: bytes, interval_ms: int) -> Command:
    """Return the command that takes the next turn, one in each interval; its reply: 0, or the milliseconds to wait."""
    return (b"EVAL", _PACE, 1, limit, interval_ms)
