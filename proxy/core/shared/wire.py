"""Key names and sealed values in the shared store. Nothing in the store can be read, or forged, without the secret.

gs1:secret          a digest of the secret that the replicas share; the only key that does not depend on the secret
gs1:<secret>:e:<k>  an entry: position (32 bytes) | the entry, sealed with the caller's token
gs1:<secret>:l:<k>  a lease: the leader of the flight
gs1:<secret>:f:<k>  the outcome of that flight, sealed with the caller's token
gs1:<secret>:w      the log: writes, events, purges, refused tokens, limits
gs1:<secret>:ep     the epoch of the log, random: another epoch means another log
gs1:<secret>:p:<k>  the replica that probes a limit
gs1:<secret>:t:<k>  when the next low-priority read may be sent
gs1:<secret>:r:<replica>   exists while that replica is alive
gs1:<secret>:m      the replicas that are alive
"""

from __future__ import annotations

import struct
from binascii import b2a_base64
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
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_LENGTHS: Final = [size.to_bytes(4, "big") for size in range(256)]

UNREADABLE = (InvalidTag, msgspec.MsgspecError, ValueError, TypeError, OverflowError)
"""The exceptions of opening or decoding bytes that no replica with this secret has sealed."""


class Id(NamedTuple):
    """The ID of an entry of the stream: milliseconds of the store's clock, and a number within them."""

    ms: int
    number: int

    @classmethod
    def read(cls, text: bytes) -> Id:
        """Returns the ID that Redis writes as *text*. Raises ValueError."""
        ms, _, number = text.partition(b"-")
        return cls(int(ms), int(number or b"0"))

    def __bytes__(self) -> bytes:
        """Returns the ID as Redis writes it."""
        return b"%d-%d" % self


BEGIN: Final = Id(0, 0)


class Position(NamedTuple):
    """How far a replica had read which log when it called Graph."""

    lineage: bytes  # 16 bytes
    last: Id

    def pack(self) -> bytes:
        """Returns the 32 bytes that stand before a sealed entry, and that its seal covers."""
        return _POSITION.pack(self.lineage, *self.last)

    @classmethod
    def unpack(cls, packed: bytes) -> Position:
        """Returns the position that `pack` wrote."""
        ms, number = packed[_LINEAGE_BYTES:-_ID_BYTES], packed[-_ID_BYTES:]
        return cls(packed[:_LINEAGE_BYTES], Id(int.from_bytes(ms, "big"), int.from_bytes(number, "big")))


_POSITION: Final = struct.Struct(">16sQQ")
POSITION_BYTES: Final = _POSITION.size


class Box:
    """AES-256-GCM (NIST SP 800-38D) with a key for each token, derived from one secret; "" stands for no token."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._cipher = Memo(lambda token: AESGCM(_derive(master, b"gs-fleet-box", token)))

    def close(self, token: str, data: bytes, binding: bytes, nonce: bytes) -> bytes:
        """Returns *data*, sealed for *token* and bound to the place *binding*; *nonce* is 12 new bytes."""
        return nonce + self._cipher(token).encrypt(nonce, data, binding)

    def open(self, token: str, sealed: bytes, binding: bytes) -> bytes:
        """Returns the data in *sealed*. Raises one of UNREADABLE."""
        return self._cipher(token).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], binding)


class KeyNames:
    """The names of keys, derived with the secret: without it no token, path or id can be guessed from them."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self._master = master
        self.secret = blake2b(key=master, digest_size=16, person=b"gs-fleet-id").digest()
        self.prefix = b"gs1:%b:" % self.secret[:4].hex().encode()
        self.log = self.prefix + b"w"
        self.epoch = self.prefix + b"ep"
        self.members = self.prefix + b"m"

    def entry(self, key: bytes) -> bytes:
        """Returns the name of the entry with the cache key *key*."""
        return self.prefix + b"e:" + _base64url(key)

    def lease(self, flight: bytes) -> bytes:
        """Returns the name of the lease of *flight*."""
        return self.prefix + b"l:" + _base64url(flight)

    def outcome(self, flight: bytes) -> bytes:
        """Returns the name of the outcome of *flight*."""
        return self.prefix + b"f:" + _base64url(flight)

    def replica(self, replica: bytes) -> bytes:
        """Returns the name of the key that exists while *replica* is alive."""
        return self.prefix + b"r:" + replica.hex().encode()

    def probe(self, limit: str) -> bytes:
        """Returns the name under which the probe of *limit* is claimed."""
        return self.prefix + b"p:" + self._keyed(limit.encode("utf-8", "surrogatepass"))

    def pace(self, limit: str) -> bytes:
        """Returns the name of the time at which the next low-priority read may use *limit*."""
        return self.prefix + b"t:" + self._keyed(limit.encode("utf-8", "surrogatepass"))

    def family(self, text: bytes) -> bytes:
        """Returns the keyed name of a family of reads, which is equal on every replica."""
        return blake2b(text, key=self._master, digest_size=16, person=b"gs-family").digest()

    def flight(self, *parts: bytes) -> bytes:
        """Returns the 32-byte name of a flight: equal only for equal *parts*."""
        framed = b"".join([_length(part) + part for part in parts])
        return blake2b(framed, key=self._master, digest_size=32, person=b"gs-flight").digest()

    def _keyed(self, text: bytes) -> bytes:
        return _base64url(blake2b(text, key=self._master, digest_size=16, person=b"gs-fleet-name").digest())


class Wire:
    """The names and seals of one installation."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret."""
        self.names = KeyNames(master)
        self.box = Box(master)


def _length(part: bytes) -> bytes:
    size = len(part)
    return _LENGTHS[size] if size < len(_LENGTHS) else size.to_bytes(4, "big")


def _base64url(name: bytes) -> bytes:
    return b2a_base64(name, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _derive(master: bytes, purpose: bytes, token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), key=master, person=purpose, digest_size=32).digest()
