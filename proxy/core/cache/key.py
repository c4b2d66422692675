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

from proxy.core.memory.memo import Memo
from proxy.core.model import Credential, Request

FlightKey = tuple[bytes, bytes, tuple[int | None, ...]]
"""The key of a flight: requests with equal keys share one call to Graph."""


class Keys:
    """Derives keys with the installation's secret, so that tokens cannot be guessed from them without it."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret of 32 bytes."""
        self._master = master
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
        return self.entry(request), self.proof(request.credential), request.directives.ages

    def mark(self, body: bytes) -> bytes:
        """Returns an 8-byte digest of a body or validator, for logs."""
        return blake2b(body, key=self._master, digest_size=8, person=b"gs-mark").digest()

    def _derive_entry_key(self, request: Request) -> bytes:
        return self.derive(self.fingerprint(request.credential), request)

    def derive(self, fingerprint: bytes, request: Request) -> bytes:
        """Returns what `entry` does for a token with *fingerprint*, without remembering it."""
        parts = (request.host, request.version, request.path, request.query, request.language)
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return blake2b(fingerprint + text, key=self._master, digest_size=32, person=b"gs-entry").digest()

    def _hash_token(self, token: str | None) -> bytes:
        text = b"" if token is None else b"\1" + token.encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._master, digest_size=16, person=b"gs-finger").digest()
