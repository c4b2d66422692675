"""What the log of the fleet holds: each record sealed, and numbered by its sender so that a lost one is noticed."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.shared.wire import UNREADABLE, Box, Names

Headers = tuple[tuple[str, str], ...]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """A write is about to leave, or still on its way: what it may change is in doubt until it is closed."""

    write: bytes
    nodes: tuple[str, ...]  # () for any
    who: bytes  # the fingerprint of its token


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Graph answered a write: what was fetched before this record is older than it."""

    write: bytes
    nodes: tuple[str, ...]
    who: bytes


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """Meta told of changes: of each the kind, the object, its fields, and the other objects that it names."""

    events: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Graph refused the token with this fingerprint."""

    who: bytes


class Purged(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """An operator's order; one of these is given."""

    path: str = ""
    id: str = ""
    fingerprint: str = ""
    all: bool = False


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """What Graph told one replica of limits: the usage headers of a reply, its body if it was a refusal."""

    who: bytes
    path: str
    query: str
    status: int
    headers: Headers
    body: bytes = b""


class Reopened(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """A probe was answered: these limits are open again. Each is kind, owner, id and type."""

    limits: tuple[tuple[str, bytes, str, str], ...]


class Wanted(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """Callers want the fields *own* of a family of reads, whose keyed name this is; *names* were asked for them."""

    family: bytes
    own: tuple[str, ...]
    names: tuple[str, ...]


What = Wanted | Opened | Closed | Changed | Refused | Purged | Heard | Reopened


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One line of the log: who sent it, its number among those of this sender, and what it tells."""

    sender: bytes
    number: int
    what: What


FIELD: Final = b"d"
"""The one field of each entry of the stream."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def seal(record: Record, box: Box, names: Names, nonce: bytes) -> bytes:
    """*record* as the log holds it."""
    return box.close("", _encode(record), names.log, nonce)


def unseal(sealed: bytes, box: Box, names: Names) -> Record | None:
    """The record that was sealed so; None for bytes that no replica of this secret wrote."""
    try:
        return _decode(box.open("", sealed, names.log))
    except UNREADABLE:
        return None
