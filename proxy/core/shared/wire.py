"""Key names and sealed values in the shared store. Nothing in the store can be read, or forged, without the secret.

gs1:secret          which secret the replicas of this database share; the only key that all secrets have in common
gs1:<secret>:e:<k>  an entry: position (32) | the entry, sealed under the caller's token
gs1:<secret>:l:<k>  a lease: who leads the flight
gs1:<secret>:f:<k>  how that flight ended, sealed under the caller's token
gs1:<secret>:w      the log: writes, events, purges, refused tokens, what Graph tells of limits
gs1:<secret>:ep     the epoch of the log, random; another one is another log
gs1:<secret>:p:<k>  who probes a limit
gs1:<secret>:t:<k>  when the next read that has time may go
gs1:<secret>:r:<replica>   exists while that replica lives
gs1:<secret>:m      all replicas that live
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.core.memory.memo import Memo

SECRET_KEY: Final = b"gs1:secret"
REPLICA_BYTES: Final = 8
TOKEN_BYTES: Final = 8
NONCE_BYTES: Final = 12
_LINEAGE_BYTES: Final = 16
_ID_BYTES: Final = 8

UNREADABLE = (InvalidTag, msgspec.MsgspecError, ValueError, TypeError, OverflowError)
"""What opening or decoding raises for bytes that no replica with this secret has sealed."""


class Id(NamedTuple):
    """The ID of an entry of the stream: milliseconds of the store's clock, and a number within them."""

    ms: int
    number: int

    @classmethod
    def read(cls, text: bytes) -> Id:
        """The ID that Redis spells *text*. Raises ValueError."""
        ms, _, number = text.partition(b"-")
        return cls(int(ms), int(number or b"0"))

    def __bytes__(self) -> bytes:
        """As Redis spells it."""
        return b"%d-%d" % self


BEGIN: Final = Id(0, 0)


class Position(NamedTuple):
    """How far a replica had read the log when a fetch began, and in which log."""

    lineage: bytes  # 16 bytes
    last: Id

    def pack(self) -> bytes:
        """The 32 bytes that stand before a sealed entry, and that its seal binds."""
        return self.lineage + b"".join(part.to_bytes(_ID_BYTES, "big") for part in self.last)

    @classmethod
    def unpack(cls, packed: bytes) -> Position:
        """What `pack` packed."""
        numbers = packed[_LINEAGE_BYTES:]
        return cls(
            packed[:_LINEAGE_BYTES],
            Id(int.from_bytes(numbers[:_ID_BYTES], "big"), int.from_bytes(numbers[_ID_BYTES:], "big")),
        )


POSITION_BYTES: Final = _LINEAGE_BYTES + 2 * _ID_BYTES


class Box:
    """AES-256-GCM (NIST SP 800-38D) under keys of one secret, one for each token; "" where no token is needed."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._cipher = Memo(lambda token: AESGCM(_derive(master, b"gs-fleet-box", token)))

    def close(self, token: str, data: bytes, binding: bytes, nonce: bytes) -> bytes:
        """*data*, sealed for *token* in the place *binding*; *nonce* is 12 bytes that were never used before."""
        return nonce + self._cipher(token).encrypt(nonce, data, binding)

    def open(self, token: str, sealed: bytes, binding: bytes) -> bytes:
        """What was sealed so. Raises one of UNREADABLE."""
        return self._cipher(token).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], binding)


class Names:
    """The names of keys, made with the secret: no token, path or id can be read from them, nor tried without it."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._master = master
        self.secret = blake2b(key=master, digest_size=16, person=b"gs-fleet-id").digest()
        self.prefix = b"gs1:%b:" % self.secret[:4].hex().encode()
        self.log = self.prefix + b"w"
        self.epoch = self.prefix + b"ep"
        self.members = self.prefix + b"m"

    def entry(self, key: bytes) -> bytes:
        """Where the entry with the keyed name *key* is."""
        return self.prefix + b"e:" + _spelled(key)

    def lease(self, flight: bytes) -> bytes:
        """Where the lease of *flight* is."""
        return self.prefix + b"l:" + _spelled(flight)

    def outcome(self, flight: bytes) -> bytes:
        """Where it stands how *flight* ended."""
        return self.prefix + b"f:" + _spelled(flight)

    def replica(self, replica: bytes) -> bytes:
        """What exists as long as *replica* lives."""
        return self.prefix + b"r:" + replica.hex().encode()

    def probe(self, limit: str) -> bytes:
        """Where the probe of *limit* is claimed."""
        return self.prefix + b"p:" + self._keyed(limit.encode("utf-8", "surrogatepass"))

    def pace(self, limit: str) -> bytes:
        """Where it stands when the next read that has time may draw on *limit*."""
        return self.prefix + b"t:" + self._keyed(limit.encode("utf-8", "surrogatepass"))

    def family(self, text: bytes) -> bytes:
        """The keyed name of a family of reads, which is the same on every replica."""
        return blake2b(text, key=self._master, digest_size=16, person=b"gs-family").digest()

    def flight(self, *parts: bytes) -> bytes:
        """The 32-byte name of a flight: equal for equal *parts* alone."""
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return blake2b(framed, key=self._master, digest_size=32, person=b"gs-flight").digest()

    def _keyed(self, text: bytes) -> bytes:
        return _spelled(blake2b(text, key=self._master, digest_size=16, person=b"gs-fleet-name").digest())


class Wire:
    """Names and seals of one installation."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self.names = Names(master)
        self.box = Box(master)


def _spelled(name: bytes) -> bytes:
    return base64.urlsafe_b64encode(name).rstrip(b"=")


def _derive(master: bytes, purpose: bytes, token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), key=master, person=purpose, digest_size=32).digest()
