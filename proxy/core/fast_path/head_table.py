"""Reads by the bytes of their heads: header blocks that a program repeats are parsed once, and its reads too."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import FreshHit, PreparedReply

_BLOCK, _READ, _HIT = 2000, 2500, 3000
"""Bytes that the objects of a header block, of a read, and of a reply from memory take besides their text."""

_READ_OF_BATCH = 150
"""Bytes that a batch takes for each of its reads, besides the reads themselves."""

_MOST_ONCE = 1024
"""Batches that came once of which the hashes are known."""

_COPIES = 4
"""How often the text of a request line is kept: as it came, and in parts of what was derived from it."""


class HeaderBlock(msgspec.Struct, eq=False, frozen=True):
    """A block of header fields that was read, and the reads that came with it; None for what is no plain read."""

    fields: Mapping[str, str] | None  # None: unusual
    reads: dict[bytes, PreparedRead | None]
    kinds: dict[bytes, PreparedRead]  # the last read of any object, by its request line without the id

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the fields: they hold a token."""
        return "HeaderBlock()"


_Blocks = dict[bytes, HeaderBlock]


class HeadTable:
    """Header blocks and reads of late, in two generations: when the young fill half, the old are forgotten."""

    def __init__(self, limit: int) -> None:
        """Hold nothing yet, and never more than *limit* bytes."""
        self._limit = limit
        self._young: _Blocks = {}
        self._old: _Blocks = {}
        self._bytes = 0
        self.hits: dict[bytes, FreshHit] = {}  # replies from memory by the whole heads that they answer
        self.batches: dict[Hashable, Any] = {}  # clients' batches of plain reads that came twice, by their texts
        self._once: dict[int, None] = {}  # hashes of the names of batches that came once of late

    def find(self, block: bytes) -> HeaderBlock | None:
        """What is known of the header *block*."""
        found = self._young.get(block)
        if found is None and (old := self._old.get(block)) is not None:
            return self.add(block, old.fields)
        return found

    def find_older(self, block: bytes, line: bytes) -> tuple[bool, PreparedRead | None]:
        """Whether the request *line* came with *block* a while ago, and the read that it was, which is young again."""
        old = self._old.get(block)
        if old is None or line not in old.reads:
            return False, None
        read = old.reads[line]
        self.add_read(block, line, read)
        return True, read

    def add(self, block: bytes, fields: Mapping[str, str] | None) -> HeaderBlock:
        """Keep *block*, whose *fields* were read."""
        self.grow(_BLOCK + 3 * len(block))
        added = self._young[block] = HeaderBlock(fields, {}, {})
        return added

    def add_read(self, block: bytes, line: bytes, read: PreparedRead | None) -> None:
        """Keep *read*, which came by its request *line* with *block*."""
        known = self._young.get(block)
        if known is not None:
            known.reads[line] = read
            self.grow(_READ + _COPIES * len(line))

    def add_hit(self, data: bytes, hit: FreshHit) -> None:
        """Keep *hit* as the answer to the whole head *data*."""
        if data not in self.hits:
            self.grow(_COPIES * len(data))
        self.hits[data] = hit

    def note_batch(self, name: Hashable) -> bool:
        """Note that a batch of this *name* came; returns whether one did before, so that keeping it may be of use."""
        mark = hash(name)
        if mark in self._once:
            return True
        if len(self._once) >= _MOST_ONCE:
            self._once.clear()
        self._once[mark] = None
        return False

    def add_batch(self, name: Hashable, batch: Any, reads: int, size: int) -> None:
        """Keep *batch*, of so many *reads*, under its *name* of this *size*."""
        self.grow(size + _READ_OF_BATCH * reads)
        self.batches[name] = batch

    def grow_by_hit(self, reply: PreparedReply) -> None:
        """Count the bytes of a *reply* from memory that is kept with its read."""
        self.grow(_HIT + 2 * len(reply.start) + len(reply.body or b""))

    def add_kind(self, known: HeaderBlock, kind: bytes, read: PreparedRead) -> None:
        """Keep *read*, which is like all others of its *kind* but for its object."""
        if kind not in known.kinds:
            self.grow(_READ + len(kind))
        known.kinds[kind] = read

    def grow(self, size: int) -> None:
        """Count *size* more bytes of what is young."""
        self._bytes += size
        if self._bytes > self._limit // 2:
            self._old, self._young, self._bytes = self._young, {}, 0
            self.hits, self.batches = {}, {}

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._bytes = {}, {}, 0
        self.hits, self.batches, self._once = {}, {}, {}
