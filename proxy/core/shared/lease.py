"""Leases of flights: one replica, the leader, calls Graph; the others follow and wait for the outcome.

A lease is the value under a flight's name while its leader calls Graph: `SET NX` gives the lease to one replica. Its
token is new each time, and an outcome is accepted only if its token names the flight that was joined, so the outcome
of an earlier flight is not. A replica that takes a flight over keeps the part of the token that names the flight: a
follower accepts the outcome even if the flight ended between two of its polls, before it saw the new lease.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from proxy.core.shared.wire import REPLICA_BYTES, TOKEN_BYTES, UNREADABLE, Box

ALIVE_MS: Final = 3000
"""A replica that has not renewed its key for so long counts as dead, and its flights are taken over."""

OUTCOME_MS: Final = 3000
"""How long the outcome of a flight can be read."""

MARGIN_MS: Final = 5000
"""A lease lasts longer than the longest flight by this."""

FLIGHT_BYTES: Final = 6
"""The first bytes of a token name the flight; the others differ for each replica that takes the flight over."""

_POLLS_S: Final = (0.01, 0.01, 0.01, 0.025, 0.025, 0.025, 0.05)
_HAS_TIME: Final = 1
_MAC_BYTES: Final = 16


class Lease(NamedTuple):
    """The leader of a flight, and the token of this lease."""

    replica: bytes
    token: bytes
    has_time: bool = False

    def taken_over(self, replica: bytes, token: bytes) -> Lease:
        """Returns the lease of the same flight for *replica*; *token* is new."""
        return self._replace(replica=replica, token=self.token[:FLIGHT_BYTES] + token[FLIGHT_BYTES:])

    def is_answered_by(self, token: bytes) -> bool:
        """Returns whether an outcome with *token* is of this lease's flight, whichever replica led it at the end."""
        return hmac.compare_digest(token[:FLIGHT_BYTES], self.token[:FLIGHT_BYTES])


class Leases:
    """Writes and reads leases, which are authenticated with the installation's secret."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._key = blake2b(key=master, digest_size=32, person=b"gs-lease").digest()

    def pack(self, lease: Lease, flight: bytes) -> bytes:
        """Returns *lease* of *flight* as bytes."""
        text = lease.replica + lease.token + bytes([_HAS_TIME if lease.has_time else 0])
        return text + self._mac(text, flight)

    def unpack(self, packed: bytes, flight: bytes) -> Lease | None:
        """Returns the lease that `pack` wrote for this *flight*; None for any other bytes."""
        size = REPLICA_BYTES + TOKEN_BYTES + 1
        text, mac = packed[:size], packed[size:]
        if len(text) != size or not hmac.compare_digest(mac, self._mac(text, flight)):
            return None
        return Lease(text[:REPLICA_BYTES], text[REPLICA_BYTES:-1], bool(text[-1] & _HAS_TIME))

    def _mac(self, text: bytes, flight: bytes) -> bytes:
        return blake2b(text + flight, key=self._key, digest_size=_MAC_BYTES).digest()


class FlightOutcome(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of a flight: Graph's answer, without its body if that is in the shared store already."""

    token: bytes  # of the lease
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    channel: str
    mode: str
    etag: str = ""  # of the entry that the answer stored or confirmed; "" for none
    asked: float = 0.0  # when the leader called Graph, by the store's clock
    position: bytes = b""  # how far the leader had read the log at that time
    is_shared: bool = False  # whether the entry is in the shared store
    detail: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FlightOutcome).decode


def seal_outcome(outcome: FlightOutcome, box: Box, token: str, flight: bytes, nonce: bytes) -> bytes:
    """Returns *outcome* of *flight*, sealed for callers with this *token*."""
    return box.close(token, _encode(outcome), b"outcome" + flight, nonce)


def unseal_outcome(sealed: bytes, box: Box, token: str, flight: bytes, lease: Lease) -> FlightOutcome | None:
    """Returns the outcome of *flight* under *lease*; None for the outcome of another flight, or other bytes."""
    try:
        found = _decode(box.open(token, sealed, b"outcome" + flight))
    except UNREADABLE:
        return None
    return found if lease.is_answered_by(found.token) else None


def poll_s(polls: int, dice: float) -> float:
    """Returns the seconds until the next poll, after so many *polls*; *dice* (0 to 1) spreads the polls of replicas."""
    return _POLLS_S[min(polls, len(_POLLS_S) - 1)] * (0.75 + dice / 2)
