"""The records in the log of the fleet: each is sealed, and numbered by its sender, so that a lost record is noticed."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.model import Headers
from proxy.core.shared.wire import UNREADABLE, Box, KeyNames


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """A write is about to be sent, or is still open: until it is closed, no entry that it may change is fresh."""

    write: bytes
    nodes: tuple[str, ...]  # () for any
    who: bytes  # the fingerprint of its token


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Graph answered a write: entries that were fetched before this record are older than the write."""

    write: bytes
    nodes: tuple[str, ...]
    who: bytes


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """Meta's webhooks reported changes: for each its kind, object, fields, and the other objects that it names."""

    events: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Graph refused the token with this fingerprint."""

    who: bytes


class Purged(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """An operator's purge order; exactly one of these members is set."""

    path: str = ""
    id: str = ""
    fingerprint: str = ""
    all: bool = False


class LimitReport(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """What a reply to one replica says about limits: its usage headers, and its body if it is a refusal."""

    who: bytes
    path: str
    query: str
    status: int
    headers: Headers
    body: bytes = b""


class Reopened(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """A probe was answered, so these limits are no longer stopped; each is kind, owner, id and type."""

    limits: tuple[tuple[str, bytes, str, str], ...]


class Wanted(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """Callers want the fields *own* of a family of reads, given by its keyed name; Graph was asked for *names*."""

    family: bytes
    own: tuple[str, ...]
    names: tuple[str, ...]


Content = Wanted | Opened | Closed | Changed | Refused | Purged | LimitReport | Reopened
"""What one record says."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One record: the replica that sent it, its number among that sender's records, and its content."""

    sender: bytes
    number: int
    what: Content


FIELD: Final = b"d"
"""The one field of each entry of the stream."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def seal_record(record: Record, box: Box, names: KeyNames, nonce: bytes) -> bytes:
    """Returns *record* as it stands in the log."""
    return box.close("", _encode(record), names.log, nonce)


def unseal_record(sealed: bytes, box: Box, names: KeyNames) -> Record | None:
    """Returns the record in *sealed*; None for bytes that no replica with this secret wrote."""
    try:
        return _decode(box.open("", sealed, names.log))
    except UNREADABLE:
        return None
