"""Reads by the bytes of their heads: header blocks that a program repeats are parsed once, and its reads too."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from proxy.core.fast_path import head
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.fast_path.prepared_reply import FreshHit, PreparedReply
from proxy.core.routing.hosts import Head

_BLOCK, _READ, _HIT = 2000, 2500, 3000
"""Bytes that the objects of a header block, of a read, and of a reply from memory take besides their text."""

_READ_OF_BATCH = 150
"""Bytes that a batch takes for each of its reads, besides the reads themselves."""

_MARK = 100
"""Bytes that the hash of a request line takes, with its place in a set."""

_MOST_ONCE = 1024
"""Batches that came once of which the hashes are known."""

_COPIES = 4
"""How often the text of a request line is kept: as it came, and in parts of what was derived from it."""

_LEAN_READ = 1000
"""Bytes that the objects of a read take that keeps no lines of the log, and was never in a client's batch."""

_LINE = 1000
"""Bytes that the lines of the log take that a read keeps."""

_ROOM = 7 / 8
"""The part of the room of the young that reads may fill which memory has an entry of; the rest is for all else."""

_PATIENCE = 32
"""A full table forgets its old half when so many times as many further reads came as fit into a half."""


_OF_OBJECT = re.compile(rb"GET (/v[0-9]{1,4}\.[0-9]{1,4}|)/([0-9]{1,40})((?:/[a-z_]{1,40})?(?:\?[^ ]*)?) HTTP/1\.1")


def is_whole(data: bytes) -> bool:
    """Whether *data* is the head of one GET, without anything behind it."""
    return len(data) <= head.LARGEST_HEAD and data.startswith(b"GET /") and data.find(b"\r\n\r\n") == len(data) - 4


def split_object(line: bytes) -> tuple[bytes, str] | None:
    """Returns the request *line* of a read of an object without its id, and the id; None where it names none."""
    found = _OF_OBJECT.fullmatch(line)
    return (found[1] + b"/ " + found[3], found[2].decode()) if found else None


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
        self._window = limit // (2 * _READ)  # request lines of late that are noted: about as many as reads fit
        self._limit = limit - 2 * _MARK * self._window
        self._refused = 0  # reads for which there was no room since the last turn
        self._lines: set[int] = set()  # hashes of request lines that came once of late
        self._older_lines: set[int] = set()
        self._young: _Blocks = {}
        self._old: _Blocks = {}
        self._bytes = 0
        self.hits: dict[bytes, FreshHit] = {}  # replies from memory by the whole heads that they answer
        self.batches: dict[Hashable, Any] = {}  # clients' batches of plain reads that came twice, by their texts
        self._once: dict[int, None] = {}  # hashes of the names of batches that came once of late

    def read_of(self, data: bytes, preparation: Preparation, *, rewrites_links: bool) -> PreparedRead | None:
        """The plain read that *data* asks for; None where *data* is anything else."""
        end = data.find(b"\r\n")
        line, block = data[:end], data[end:]
        known = self._young.get(block)
        read = known.reads.get(line) if known is not None else None
        if read is not None or not is_whole(data):
            return read
        known = known or self.find(block)
        if known is None:
            block = head.without_changing(block)
            known = self.find(block) or self.add(block, head.read_fields(block))
        if line in known.reads:
            return known.reads[line]
        old = self._old.get(block)
        if old is not None and line in old.reads:
            return self._keep_older(block, line, old.reads[line])
        is_made, read = self._prepare(line, known, preparation, rewrites_links=rewrites_links)
        if read is None or not is_made:
            self.add_read(block, line, read)
        elif self._came_before(line):
            self._keep(known, line, read, keeps_line=True)
        return read

    def keep(self, data: bytes, read: PreparedRead) -> None:
        """Keep *read*, which `read_of` made of *data*, if there is room: memory has an entry of it, so it came before.

        Where there is none, most of what is kept stays for a while: of a loop over more reads than fit a part is found
        each time. If the least recently used left instead, none would be.
        """
        if self._has_no_room():
            return
        end = data.find(b"\r\n")
        line, block = data[:end], data[end:]
        known = self._young.get(block) or self.find(head.without_changing(block))
        if known is not None:
            self._keep(known, line, read, keeps_line=False)

    def _keep_older(self, block: bytes, line: bytes, read: PreparedRead | None) -> PreparedRead | None:
        """Returns *read*, which was kept a while ago, and is young again if it comes often, or if there is room."""
        known = self._young.get(block)
        if read is None or known is None:
            self.add_read(block, line, read)
        elif read.keeps_line or self._came_before(line):
            self._keep(known, line, read, keeps_line=True)
        elif not self._has_no_room() and (known := self.find(block)) is not None:
            self._keep(known, line, read, keeps_line=False)
        return read

    def _has_no_room(self) -> bool:
        """Returns whether no read that is not certain to come soon may be added; begin anew if many were refused."""
        half = self._limit // 2
        if self._bytes <= half * _ROOM:
            return False
        self._refused += 1
        if self._old and self._refused * _LEAN_READ <= half * _PATIENCE:
            return True
        self._forget_old()
        return False

    def _keep(self, known: HeaderBlock, line: bytes, read: PreparedRead, *, keeps_line: bool) -> None:
        """Keep *read* with a *known* block; *keeps_line* says whether the lines of the log are kept with it."""
        known.reads[line] = read
        read.is_kept, read.keeps_line = True, keeps_line
        self.grow(_LEAN_READ + _LINE * keeps_line + _COPIES * len(line))

    def _came_before(self, line: bytes) -> bool:
        """Note that a request *line* came; returns whether it did before of late, so that keeping its read is of use.

        Of more reads in turn than fit none would be found again. To keep them would cost more than to make them anew.
        """
        mark = hash(line)
        if mark in self._lines or mark in self._older_lines:
            return True
        if len(self._lines) >= self._window:
            self._older_lines, self._lines = self._lines, set()
        self._lines.add(mark)
        return False

    def _prepare(
        self, line: bytes, known: HeaderBlock, preparation: Preparation, *, rewrites_links: bool
    ) -> tuple[bool, PreparedRead | None]:
        """The plain read that a request *line* asks for with a *known* block; and whether it was made from another.

        The two have the same tag in the block's table if nothing but the id of the object differs.
        """
        split, read = split_object(line), None
        if split is not None and (other := known.kinds.get(split[0])) is not None:
            read = preparation.prepare_like(other, split[1])
            if read is not None:
                return True, read
        if known.fields is not None and (target := head.read_target(line)) is not None:
            read = preparation.prepare(Head("GET", target, known.fields), rewrite_links=rewrites_links)
        if split is not None and read is not None:
            self.add_kind(known, split[0], read)
        return False, read

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
            if read is not None:
                read.is_kept = read.keeps_line = True
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
            self._forget_old()

    def _forget_old(self) -> None:
        """Let what is young be old, and forget what was."""
        self._old, self._young, self._bytes = self._young, {}, 0
        self.hits, self.batches, self._refused = {}, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._bytes = {}, {}, 0
        self.hits, self.batches, self._once = {}, {}, {}
        self._lines, self._older_lines = set(), set()
