"""Who and what: the names under which a request is held and in flight. No token can be read back from them."""

from __future__ import annotations

from hashlib import blake2b

from proxy.core.memory.memo import Memo
from proxy.core.model import Credential, Request

Twins = tuple[bytes, bytes, tuple[int | None, ...]]
"""What two requests must have in common to share one flight."""


class Keys:
    """Names made with the installation's secret, so that nobody without it can try tokens against them."""

    def __init__(self, master: bytes) -> None:
        """Take *master*, the installation's secret of 32 bytes."""
        self._master = master
        self._fingerprint = Memo(self._hash_token)
        self._entry = Memo(self._name_entry)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """The 16 bytes that stand for a token; those of no token are their own."""
        return self._fingerprint(credential.token if credential else None)

    def entry(self, request: Request) -> bytes:
        """The 32-byte name of what *request* reads: credential, host, version as asked, path, query, language."""
        return self._entry(request)  # asked for in every room that a read goes through

    def proof(self, credential: Credential | None) -> bytes:
        """The digest of what vouches for the token: nobody borrows a proof that was checked for another."""
        if credential is None or not (credential.proof or credential.time):
            return b""
        text = f"{credential.proof}\0{credential.time}".encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._master, digest_size=8, person=b"gs-proof").digest()

    def flight(self, request: Request) -> Twins:
        """What tells the twins of *request*: they read the same, are vouched for alike and take an answer as old."""
        return self.entry(request), self.proof(request.credential), request.directives.ages

    def mark(self, body: bytes) -> bytes:
        """8 bytes that are equal for equal bodies, or validators, and tell nothing else of them."""
        return blake2b(body, key=self._master, digest_size=8, person=b"gs-mark").digest()

    def _name_entry(self, request: Request) -> bytes:
        parts = (request.host, request.version, request.path, request.query, request.language)
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return blake2b(
            self.fingerprint(request.credential) + text, key=self._master, digest_size=32, person=b"gs-entry"
        ).digest()

    def _hash_token(self, token: str | None) -> bytes:
        text = b"" if token is None else b"\1" + token.encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._master, digest_size=16, person=b"gs-finger").digest()
