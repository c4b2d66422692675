"""Entries in the shared store: the tier behind memory and disk, which all replicas use."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from msgspec.structs import replace
from redis.exceptions import ResponseError

from proxy.core.cache.encryption import NONCE_BYTES, BadSeal, CompressedBody, Sealer
from proxy.core.model import Entry
from proxy.core.shared.store_clock import StoreClock
from proxy.core.shared.wire import POSITION_BYTES, KeyNames, Position
from proxy.shell.valkey import random_bytes
from proxy.shell.valkey.client import Client, is_full
from proxy.shell.valkey.link import Away, Command

KEPT_S: Final = 86400
"""The seconds for which an entry that is no longer fresh stays in the store, for revalidation."""

FULL_S: Final = 5.0
"""The seconds without writes of entries after the store was full."""

_ASKED: Final = struct.Struct(">d")
_FRONT: Final = POSITION_BYTES + _ASKED.size


class Found(NamedTuple):
    """An entry of the shared store, and how far the replica that fetched it had read the log."""

    entry: Entry
    position: Position


@dataclass(eq=False, slots=True)
class Entries:
    """Loads and writes entries of the shared store; nothing here raises, and a failure is a miss."""

    client: Client
    names: KeyNames
    sealer: Sealer
    clock: StoreClock
    largest: int  # bytes of a value
    loaded: int = 0
    missed: int = 0
    written: int = 0
    bad: int = 0
    full: int = 0
    _full_until: float = -math.inf

    async def load(self, key: bytes, token: str, now: float, steady: float, within_s: float) -> Found | None:
        """Return the entry *key* if *token* opens it; *now* is in epoch seconds, *steady* in monotonic seconds."""
        try:
            (value,) = await self.client.ask(self.get(key), within_s=within_s)
        except Away:
            return None
        return self.read(key, token, value, now, steady)

    def get(self, key: bytes) -> Command:
        """Returns the command that reads the entry *key*."""
        return (b"GET", self.names.entry(key))

    def read(self, key: bytes, token: str, value: object, now: float, steady: float) -> Found | None:
        """Return the entry that is sealed in the store's *value*; None for anything else."""
        if not isinstance(value, bytes) or len(value) < _FRONT:
            self.missed += 1
            return None
        front, sealed = value[:_FRONT], value[_FRONT:]
        try:
            entry = self.sealer.unseal(key + front, token, sealed)
        except BadSeal:
            self.bad += 1
            return None
        (asked,) = _ASKED.unpack(front[POSITION_BYTES:])
        self.loaded += 1
        local = now - max(0.0, self.clock.age(asked, steady))
        return Found(replace(entry, meta=replace(entry.meta, asked_at=local)), Position.unpack(front[:POSITION_BYTES]))

    def takes(self, entry: Entry, steady: float) -> bool:
        """Returns whether `value` may make a value of *entry*: it is not too large, and the store has room."""
        return len(entry.body) <= self.largest * 16 and steady >= self._full_until

    def value(
        self,
        key: bytes,
        token: str,
        entry: Entry,
        compressed: CompressedBody | None = None,
        *,
        asked: float,
        position: Position,
        steady: float,
    ) -> bytes:
        """Returns the value to store; b"" for an entry that is too large, or while the store is full.

        *compressed* is what `encryption.compress` made of the body, if it was called before.
        """
        if not self.takes(entry, steady):
            return b""
        front = position.pack() + _ASKED.pack(asked)
        sealed = self.sealer.seal(key + front, token, entry, random_bytes.take(NONCE_BYTES), compressed)
        return front + sealed if len(sealed) <= self.largest else b""

    def keep(self, key: bytes, value: bytes, life_s: float, steady: float) -> None:
        """Write *value* to the store for *life_s* and a day, after the reply."""
        if value and self.client.is_up:
            putting = self.client.ask((b"SET", self.names.entry(key), value, b"PX", life_ms(life_s)))
            putting.add_done_callback(lambda done: None if done.exception() else self.judge(done.result()[0], steady))

    def judge(self, reply: object, steady: float) -> None:
        """Take the store's *reply* to a write."""
        if is_full(reply):
            self.full += 1
            self._full_until = steady + FULL_S
        elif not isinstance(reply, ResponseError):
            self.written += 1

    def stats(self) -> dict[str, int]:
        """Return the counts of lookups and writes."""
        return {"loaded": self.loaded, "missed": self.missed, "written": self.written, "bad": self.bad}

    def is_full(self, steady: float) -> bool:
        """Return whether the store was full in the last FULL_S seconds."""
        return steady < self._full_until


def life_ms(life_s: float) -> int:
    """Return the time to live in milliseconds of an entry that its rule may use for *life_s*."""
    return int((min(life_s, 365 * 86400) + KEPT_S) * 1000)
