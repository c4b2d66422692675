"""Derives the cache key of a read, the key of its flight, and the fingerprint of its token; all are keyed hashes.

Two spellings of one read have one key, because `routing/classify` makes the Request that is hashed here from a target
in one form (`routing/normal_form`): names and values spelled one way, parameters sorted, `fields` sorted at its top
level unless it names a field twice (`routing/fields_param.normal_fields`).

Not part of the query are `access_token`, `appsecret_proof`, `appsecret_time`, `callback` and `method`
(`routing/query.LIFTED`), and parameters that begin with `_fb_` (`normal_form.TRANSPORT`). The token counts by its
fingerprint, whether it came in the query or in Authorization (`classify.credential`; two different ones make the
message no plain read). Two proofs share one entry, but not one flight.

The layers in `shell/pipeline` ask `Keys`. The fast path does so once for each spelling of a head:
`core/fast_path/prepared_read` keeps both keys with the read, and `core/fast_path/head_table` finds the read by the
bytes of its head.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from proxy.core.memory.memo import Memo
from proxy.core.model import NO_DIRECTIVES, Credential, Request

Ages = tuple[int | None, ...]
"""The directives of a request that say how old an answer may be (`CacheDirectives.ages`)."""

ANY_AGES: Ages = NO_DIRECTIVES.ages

FlightKey = bytes | tuple[bytes, bytes, Ages]
"""The key of a flight: requests with equal keys share one call to Graph.

It is the cache key, with the digest of the proof and the ages where there are any: most have none, and then the key of
a flight takes no memory of its own, and its hash is known.
"""


def flight_key(key: bytes, proof: bytes, ages: Ages) -> FlightKey:
    """Returns the key of the flight of a read with this cache *key*, digest of its *proof*, and *ages*."""
    return (key, proof, ages) if proof or ages != ANY_AGES else key


def parts_of(flight: FlightKey) -> tuple[bytes, bytes, Ages]:
    """Returns what `flight_key` has made *flight* of."""
    return (flight, b"", ANY_AGES) if isinstance(flight, bytes) else flight


class ObjectKeys:
    """Derives the keys of reads that differ in their objects alone: what they have in common is hashed once."""

    __slots__ = ("_before", "_behind")

    def __init__(self, before: Any, behind: bytes) -> None:
        """Take a hash of all that is *before* the object's id, and what is *behind* it."""
        self._before = before
        self._behind = behind

    def derive(self, node: str) -> bytes:
        """Returns the key of the read of the object *node*, an id."""
        state = self._before.copy()
        state.update(node.encode() + self._behind)
        key: bytes = state.digest()
        return key


class Keys:
    """Derives keys with the installation's secret, so that tokens cannot be guessed from them without it."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret of 32 bytes."""
        self._master = master
        self._key_hash = blake2b(key=master, digest_size=32, person=b"gs-entry")
        self._mark_hash = blake2b(key=master, digest_size=8, person=b"gs-mark")
        self._fingerprint = Memo(self._hash_token)
        self._entry = Memo(self._derive_entry_key)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """Returns the 16 bytes that stand for a token; a request without a token has a fingerprint too."""
        return self._fingerprint(credential.token if credential else None)

    def entry(self, request: Request) -> bytes:
        """Returns the 32-byte cache key of *request*: credential, host, version as asked, path, query, language."""
        return self._entry(request)  # remembered, because every layer asks for it

    def proof(self, credential: Credential | None) -> bytes:
        """Returns the digest of `appsecret_proof` and its time: replies are shared under equal proofs only."""
        if credential is None or not (credential.proof or credential.time):
            return b""
        text = f"{credential.proof}\0{credential.time}".encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._master, digest_size=8, person=b"gs-proof").digest()

    def flight(self, request: Request) -> FlightKey:
        """Returns the key of the flight of *request*: equal for equal reads, proofs and accepted ages."""
        return flight_key(self.entry(request), self.proof(request.credential), request.directives.ages)

    def mark(self, body: bytes) -> bytes:
        """Returns an 8-byte digest of a body or validator, for logs."""
        state = self._mark_hash.copy()  # half as long as to begin anew
        state.update(body)
        return state.digest()

    def _derive_entry_key(self, request: Request) -> bytes:
        return self.derive(self.fingerprint(request.credential), request)

    def derive(self, fingerprint: bytes, request: Request) -> bytes:
        """Returns what `entry` does for a token with *fingerprint*, without remembering it."""
        parts = (request.host, request.version, request.path, request.query, request.language)
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        state = self._key_hash.copy()
        state.update(fingerprint + text)
        return state.digest()

    def of_objects(self, fingerprint: bytes, request: Request) -> ObjectKeys:
        """Returns what derives the keys of reads that differ from *request* in their object alone."""
        _, slash, edge = request.path[1:].partition("/")
        before = f"{request.host}\0{request.version}\0/".encode("utf-8", "surrogateescape")
        behind = f"{slash}{edge}\0{request.query}\0{request.language}".encode("utf-8", "surrogateescape")
        state = self._key_hash.copy()
        state.update(fingerprint + before)
        return ObjectKeys(state, behind)

    def _hash_token(self, token: str | None) -> bytes:
        text = b"" if token is None else b"\1" + token.encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._master, digest_size=16, person=b"gs-finger").digest()
