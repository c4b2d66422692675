"""This replica in the fleet: its connection, its signs of life, and whether it may use the shared store."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.core.shared.lease import ALIVE_MS
from proxy.core.shared.store_clock import StoreClock
from proxy.core.shared.trust import Trust
from proxy.core.shared.wire import REPLICA_BYTES, SECRET_KEY, Wire
from proxy.shell.valkey import events, scripts
from proxy.shell.valkey.client import Client
from proxy.shell.valkey.link import Away, Dialer, Link, understood

BEAT_S = 1.0
"""Seconds from one sign of life to the next."""

SOON_S = 0.02
"""Seconds from one sign of life to the next while the store is away."""

OLDEST = (7, 0)
"""The oldest version of Redis that has `SET NX GET`; every Valkey has it."""

OTHER_SECRET = "another secret is in use there: all replicas need one cache.key_file"  # noqa: S105 - a message
_log = logging.getLogger("graph_sidecar.shared")


class OtherSecret(Away):
    """The store belongs to replicas with another secret."""


@dataclass(eq=False, slots=True)
class Fleet:
    """What the parts of one replica that use the shared store have in common."""

    dialer: Dialer
    wire: Wire
    budget_s: float
    goes_by_clock: bool  # whether entries are fresh by the clock while the log cannot be read
    clock: StoreClock = field(default_factory=StoreClock)
    trust: Trust = field(default_factory=Trust)
    steady: Callable[[], float] = time.monotonic
    replica: bytes = field(default_factory=lambda: os.urandom(REPLICA_BYTES))
    replicas: int = 1
    trouble: str = ""
    refused: str = ""  # why the store does not take signs of life
    is_full: Callable[[], bool] = lambda: False
    has_failed: bool = False  # whether the store was not to be reached, at least once
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """Return the client, whose connection all visits use."""
        if self._client is None:
            self._client = Client(self.dialer, self.budget_s, self._greet, self._changed)
        return self._client

    @property
    def silent_s(self) -> float:
        """Return the seconds since the store last accepted a sign of life; -1 if it never did."""
        silent = self.steady() - self.trust.sign_at
        return silent if silent < math.inf else -1.0

    @property
    def is_fit(self) -> bool:
        """Return whether this replica may use the store."""
        return self.client.is_up

    # --- coming and going ---

    async def _greet(self, link: Link) -> None:
        """Check that this store can be used, on a new connection. Raises Away."""
        (info,) = await link.exchange([(b"INFO", b"server")])
        if isinstance(info, bytes) and (old := too_old(info)):
            raise Away(old)
        sent = self.steady()
        held, clock, role = await link.exchange(
            [
                (b"SET", SECRET_KEY, self.wire.names.secret, b"NX", b"EX", 60, b"GET"),
                (b"TIME",),
                (b"ROLE",),
            ]
        )
        if isinstance(held, bytes) and held != self.wire.names.secret:
            raise OtherSecret(OTHER_SECRET)
        if isinstance(role, list) and role[:1] != [b"master"]:
            raise Away("it is a replica and takes no writes")
        if not isinstance(clock, list):
            raise Away(f"it does not tell the time: {clock}")
        with understood():
            self._set_clock(clock, sent)

    def _changed(self, trouble: str) -> None:
        """Log that the store came or went, once."""
        self.trouble = trouble
        self.has_failed |= bool(trouble)
        where = self.dialer.location
        if trouble:
            _log.warning("the shared store %s is away: %s; this replica works alone", where, trouble)
        else:
            _log.info("the shared store %s answers", where)

    async def beat_forever(self) -> None:
        """Send signs of life, for ever."""
        while True:
            began = self.steady()
            if self.client.is_up:
                await self._beat()
            if not self.trust.has_sign_of_life(self.steady()):
                self.trust.revoke(self.steady())
            is_good = self.trust.sign_at >= began
            await asyncio.sleep(BEAT_S if is_good else BEAT_S / 4 if self.client.is_up else SOON_S)

    async def _beat(self) -> None:
        names = self.wire.names
        keys = (SECRET_KEY, names.replica(self.replica), names.members, names.log)
        sent = self.steady()
        try:
            (reply,) = await self.client.ask(scripts.beat(keys, names.secret, self.replica, ALIVE_MS, events.LONGEST))
        except Away:
            return
        try:
            with understood():
                self._take_beat(reply, sent)
        except Away as error:
            self.refused = str(error)

    def _take_beat(self, reply: Any, sent: float) -> None:
        """Take the store's answer to a sign of life that was *sent* then: its time, and the replicas that are alive."""
        if isinstance(reply, list) and len(reply) == 3:
            self._set_clock(reply, sent)
            self.replicas = max(1, len(reply[2]))
            self.trust.on_sign_of_life(sent)
            self.refused = ""
        else:
            self.refused = OTHER_SECRET if reply == [b"other"] else str(reply)

    def _set_clock(self, reply: list[Any], sent: float) -> None:
        self.clock.set(int(reply[0]) + int(reply[1]) / 1e6, sent, self.steady())


def too_old(info: bytes) -> str:
    """Returns the problem with a server that describes itself so in INFO, "" without one."""
    if b"valkey_version:" in info:
        return ""
    found = re.search(rb"redis_version:(\d+)\.(\d+)", info)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    return f"it is Redis {found[1].decode()}.{found[2].decode()}; needed is Redis 7.0 or newer, or Valkey"
