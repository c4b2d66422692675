"""Who leads a flight, who follows, and how long followers wait.

A lease is the value under a flight's name while somebody asks Graph: `SET NX` gives it to one replica. Its token is
new each time, and an outcome is accepted only if its token names the flight that was joined: what landed before is no
answer. Who takes a flight over keeps the part of the token that names the flight, so a follower that has not seen the
new lease, because the flight landed between two of its polls, accepts the outcome all the same.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from proxy.core.shared.wire import REPLICA_BYTES, TOKEN_BYTES, UNREADABLE, Box

ALIVE_MS: Final = 3000
"""A replica that has not renewed its key for so long is dead: its flights are taken over."""

OUTCOME_MS: Final = 3000
"""How long it can be read how a flight ended."""

MARGIN_MS: Final = 5000
"""A lease outlives the longest flight by this."""

FLIGHT_BYTES: Final = 6
"""The first bytes of a token name the flight; the others differ for each replica that takes the flight over."""

_POLLS_S: Final = (0.01, 0.01, 0.01, 0.025, 0.025, 0.025, 0.05)
_HAS_TIME: Final = 1
_MAC_BYTES: Final = 16


class Lease(NamedTuple):
    """Who leads a flight."""

    replica: bytes
    token: bytes
    has_time: bool = False

    def taken_over(self, replica: bytes, token: bytes) -> Lease:
        """The lease of the same flight for *replica*; *token* was never used before."""
        return self._replace(replica=replica, token=self.token[:FLIGHT_BYTES] + token[FLIGHT_BYTES:])

    def is_answered_by(self, token: bytes) -> bool:
        """Whether an outcome with this *token* is of the flight of this lease, whoever led it in the end."""
        return hmac.compare_digest(token[:FLIGHT_BYTES], self.token[:FLIGHT_BYTES])


class Leases:
    """Writes and reads leases; nobody without the secret can."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._key = blake2b(key=master, digest_size=32, person=b"gs-lease").digest()

    def pack(self, lease: Lease, flight: bytes) -> bytes:
        """*lease* of *flight* as bytes."""
        text = lease.replica + lease.token + bytes([_HAS_TIME if lease.has_time else 0])
        return text + self._mac(text, flight)

    def unpack(self, packed: bytes, flight: bytes) -> Lease | None:
        """What `pack` packed for this very *flight*; None for any other bytes."""
        size = REPLICA_BYTES + TOKEN_BYTES + 1
        text, mac = packed[:size], packed[size:]
        if len(text) != size or not hmac.compare_digest(mac, self._mac(text, flight)):
            return None
        return Lease(text[:REPLICA_BYTES], text[REPLICA_BYTES:-1], bool(text[-1] & _HAS_TIME))

    def _mac(self, text: bytes, flight: bytes) -> bytes:
        return blake2b(text + flight, key=self._key, digest_size=_MAC_BYTES).digest()


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How a flight ended: Graph's answer, without the body where that is in the shared store already."""

    token: bytes  # of the lease
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    channel: str
    mode: str
    etag: str = ""  # of the entry that the answer made, or confirmed; "" where it made none
    asked: float = 0.0  # when the leader asked, in seconds of the store's clock
    position: bytes = b""  # how far the leader had read the log then
    is_shared: bool = False  # whether the entry is in the shared store
    detail: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Outcome).decode


def seal(outcome: Outcome, box: Box, token: str, flight: bytes, nonce: bytes) -> bytes:
    """*outcome* of *flight* for callers with this *token*."""
    return box.close(token, _encode(outcome), b"outcome" + flight, nonce)


def unseal(sealed: bytes, box: Box, token: str, flight: bytes, lease: Lease) -> Outcome | None:
    """The outcome of the *flight* that *lease* was joined for; None for that of another flight, or for other bytes."""
    try:
        found = _decode(box.open(token, sealed, b"outcome" + flight))
    except UNREADABLE:
        return None
    return found if lease.is_answered_by(found.token) else None


def poll_s(polls: int, dice: float) -> float:
    """Seconds until the next look at all that is waited for, after so many; *dice* between 0 and 1 spreads replicas."""
    return _POLLS_S[min(polls, len(_POLLS_S) - 1)] * (0.75 + dice / 2)
