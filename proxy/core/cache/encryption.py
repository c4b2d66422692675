"""Seals entries: by default encrypted, so that only this installation's secret and the caller's own token open them.

With `cache.sealed = false` whoever has the file can read entries, but only bytes that this installation wrote open.

    cache.sealed = true    nonce (12) | AES-256-GCM( flags u8, length of meta u32, length of body u32 | meta | body )
    cache.sealed = false   keyed BLAKE2b (16) |      flags u8, length of meta u32, length of body u32 | meta | body

Both forms also bind the database key and the format version: a row that was moved to another key, or written in another
layout, does not open.

`app/components` makes the Sealer, with the secret from `cache.key_file` (`shell/store/key_file` reads or makes it).
`shell/store/database` asks `may_write`, then seals each row with 12 new random bytes as its nonce. For the store that
replicas share, `app/shared` makes another Sealer with the same secret, and `shell/valkey/entries` takes new random
bytes too; there all entries are encrypted. In memory entries lie open: the fast path finds them by a key that needs the
caller's token.
"""

from __future__ import annotations

import hmac
import json
import re
import struct
import threading
from collections.abc import Callable
from hashlib import blake2b
from typing import ClassVar, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.core.http import headers
from proxy.core.memory.memo import Memo
from proxy.core.model import Entry, EntryMeta

FORMAT = b"GSC2"
"""The name of the layout; a new layout gets a new name, and every older entry becomes a miss."""
MASTER_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
MARK_BYTES = 8

SMALLEST_PACKED = 512  # below it zstd's own frame eats what it saves
LARGEST_SHARE = 0.9  # a packed body above this share is not worth unpacking
PLAIN, ZSTD = 0, 1

CompressedBody = tuple[int, bytes]
"""How a body is compressed, and the bytes of that; one such pair may be sealed more than once."""

_FRAME = struct.Struct(">BII")
_WRONG = (InvalidTag, msgspec.MsgspecError, zstandard.ZstdError, struct.error, ValueError, TypeError)


class BadSeal(Exception):  # noqa: N818 - the seal is bad, and the name says so
    """The bytes were not sealed with this secret, this token and this key."""


class Sealer:
    """Seals and opens entries, with a different key for each token."""

    def __init__(self, master: bytes, *, sealed: bool = True, is_lasting: bool = True) -> None:
        """Use the secret *master*, which later runs have too if it *is_lasting*."""
        if len(master) != MASTER_BYTES:
            raise ValueError(f"the secret has {len(master)} bytes, not {MASTER_BYTES}")
        self.sealed = sealed
        self.is_lasting = is_lasting
        self._marker = _derive(master, b"gs-mark", "")
        kind: type[_Encrypted | _Authenticated] = _Encrypted if sealed else _Authenticated
        # The reader's and the writer's thread share this memo: each of its steps is one operation on a dict.
        self._cipher: Callable[[str], _Cipher] = Memo(lambda token: kind(_derive(master, kind.purpose, token)))

    def seal(
        self, key: bytes, token: str, entry: Entry, nonce: bytes, compressed: CompressedBody | None = None
    ) -> bytes:
        """Returns the bytes to store for *entry* under *key*; *nonce* must be 12 bytes that were never used before.

        *compressed* is what `compress` made of the entry's body, where that was called before.
        """
        flags, body = compressed or compress(entry.body)
        meta = _encode(_Meta(entry.meta, headers.with_etag(entry.headers, entry.meta.etag)))
        frame = b"".join((_FRAME.pack(flags, len(meta), len(entry.body)), meta, body))
        return self._cipher(token).close(frame, _binding(key), nonce)

    def unseal(self, key: bytes, token: str, blob: bytes) -> Entry:
        """Returns the entry that was sealed under *key* for *token*. Raises BadSeal for any other bytes."""
        try:
            return _parse(self._cipher(token).open(blob, _binding(key)))
        except _WRONG as error:
            raise BadSeal(type(error).__name__) from None  # the cause could quote what it read

    def warm_up(self, nonce: bytes) -> None:
        """Seal and unseal an empty entry: ciphers and compressors set themselves up when they are first used.

        It is done at the start, so that start-up code of the libraries can be released afterwards.
        """
        nothing = Entry(EntryMeta("", "", 0.0, may_be_fresh=False, proofs=()), b"", b" " * 4096)
        self.unseal(b"", "", self.seal(b"", "", nothing, nonce))

    def mark(self, key: bytes, blob: bytes) -> bytes:
        """Returns a keyed hash of *blob* under *key*: whoever has the secret, but no token, can check a row by it."""
        return blake2b(_binding(key) + blob, key=self._marker, digest_size=MARK_BYTES).digest()

    def is_marked(self, key: bytes, blob: bytes, mark: bytes) -> bool:
        """Returns whether *mark* is that of *blob* under *key*: sealed with this secret, and not changed since."""
        return hmac.compare_digest(mark, self.mark(key, blob))

    def may_write(self, token: str, entry: Entry) -> bool:
        """Returns whether *entry* may go to disk: always if sealed, in the clear only if it holds no token."""
        if self.sealed:
            return True
        seen = _readings(b"\n".join((headers.with_etag(entry.headers, entry.meta.etag), entry.body)))
        secrets = _spellings(token) if token else set()
        return not any(b"access_token" in text.lower() or any(one in text for one in secrets) for text in seen)


# --- the two ciphers -------------------------------------------------------------------------------------------------


class _Cipher(Protocol):
    purpose: ClassVar[bytes]

    def close(self, frame: bytes, binding: bytes, nonce: bytes) -> bytes: ...
    def open(self, blob: bytes, binding: bytes) -> bytes: ...


class _Encrypted:
    """AES-256-GCM (NIST SP 800-38D): without the key an entry can be neither read nor written."""

    purpose: ClassVar[bytes] = b"gs-seal"

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def close(self, frame: bytes, binding: bytes, nonce: bytes) -> bytes:
        return nonce + self._gcm.encrypt(nonce, frame, binding)

    def open(self, blob: bytes, binding: bytes) -> bytes:
        return self._gcm.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], binding)


class _Authenticated:
    """Keyed BLAKE2b (RFC 7693): an entry can be read by anyone who has the file, but not written without the key."""

    purpose: ClassVar[bytes] = b"gs-sign"

    def __init__(self, key: bytes) -> None:
        self._key = key

    def close(self, frame: bytes, binding: bytes, nonce: bytes) -> bytes:  # noqa: ARG002 - only GCM needs a nonce
        return self._tag(frame, binding) + frame

    def open(self, blob: bytes, binding: bytes) -> bytes:
        tag, frame = blob[:TAG_BYTES], blob[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(frame, binding)):
            raise ValueError
        return frame

    def _tag(self, frame: bytes, binding: bytes) -> bytes:
        return blake2b(len(binding).to_bytes(4, "big") + binding + frame, key=self._key, digest_size=TAG_BYTES).digest()


def _derive(master: bytes, purpose: bytes, token: str) -> bytes:
    return blake2b(_token_bytes(token), key=master, person=purpose, digest_size=32).digest()


def _binding(key: bytes) -> bytes:
    return FORMAT + key


def _token_bytes(token: str) -> bytes:
    # Bytes of a header that are no UTF-8 arrive as lone surrogates; they belong to the token and must not raise.
    return token.encode("utf-8", "surrogatepass")


# --- the frame -------------------------------------------------------------------------------------------------------


class _Meta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    meta: EntryMeta
    headers: bytes


class _Tools(threading.local):
    """One compressor and one decompressor for each thread: zstandard's objects are not thread-safe."""

    def __init__(self) -> None:
        self.pack = zstandard.ZstdCompressor(level=1).compress
        self.unpack = zstandard.ZstdDecompressor().decompress


_tools = _Tools()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Meta).decode


def compress(body: bytes) -> CompressedBody:
    """Returns *body* as `Sealer.seal` stores it: compressed, if that saves enough."""
    if len(body) < SMALLEST_PACKED:
        return PLAIN, body
    packed = _tools.pack(body)
    return (ZSTD, packed) if len(packed) <= LARGEST_SHARE * len(body) else (PLAIN, body)


def _parse(frame: bytes) -> Entry:
    flags, meta_length, length = _FRAME.unpack_from(frame)
    start = _FRAME.size + meta_length
    if start > len(frame):
        raise ValueError
    meta = _decode(frame[_FRAME.size : start])
    fields = headers.without_etag(meta.headers, meta.meta.etag)
    return Entry(meta.meta, fields, _decompress(flags, frame[start:], length))


def _decompress(flags: int, body: bytes, length: int) -> bytes:
    if flags == ZSTD:
        # The size in zstd's header is checked before a buffer is allocated: a small row must not become gigabytes.
        if zstandard.frame_content_size(body) != length:
            raise ValueError
        body = _tools.unpack(body, max_output_size=length, allow_extra_data=False)
    if flags not in (PLAIN, ZSTD) or len(body) != length:
        raise ValueError
    return body


# --- what an entry in the clear may show -----------------------------------------------------------------------------

_JSON_ESCAPE = re.compile(rb"\\(?:u00([0-9a-fA-F]{2})|(/))")


def _spellings(token: str) -> set[bytes]:
    """Returns *token* as it is, and as a JSON string with and without escapes for characters that are not ASCII."""
    return {
        _token_bytes(token),
        *(_token_bytes(json.dumps(token, ensure_ascii=escape)[1:-1]) for escape in (True, False)),
    }


def _readings(text: bytes) -> list[bytes]:
    """Returns *text* as it is, without JSON's escapes, and percent-decoded once and twice (a link within a link)."""
    plain = _JSON_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"/", text)
    once = unquote_to_bytes(plain)
    return [text, plain, once, unquote_to_bytes(once)]
