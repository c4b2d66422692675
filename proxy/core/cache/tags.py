"""Which reads show an object: the edges that list it, `me`, and other names that it goes by. Learned from bodies.

A *name* stands for something that can change: an object's id, or a *place*, the path of reads that list objects.
What is learned is bounded; a read that is no longer known is learned again before it is called fresh (`touching`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from proxy.core.graph.errors import UNREADABLE
from proxy.core.memory import json_text
from proxy.core.memory.memo import Memo, Recent, short
from proxy.core.model import Request
from proxy.core.routing.query import split_pairs
from proxy.core.routing.target import named, nodes

Tags = tuple[str, ...]

SOMEBODY = "?"
"""Whoever goes by a name whose number nobody has told: any number that is written to may be that one's."""


class TagIndex:
    """What reads and writes have to do with each other beyond the objects in their paths."""

    PLACES = 10_000
    """Pairs of an object and a place in one generation; of two, the older is forgotten."""
    NAMES = 4096

    def __init__(self) -> None:
        """Know nothing."""
        self._young, self._old = _Generation(), _Generation()
        self.learned = 0  # bodies
        self._ids = Recent[str, str](self.NAMES)  # by a name that is no id; of `me`, by whose it is

    def tags_read(self, request: Request, fingerprint: bytes) -> Tags:
        """The names whose change is one of what *request* reads for the credential with *fingerprint*; () for any."""
        about, are_ids = _about(request.path, request.query)
        if are_ids or not about:
            return about
        return (*(name for node in about for name in self._read_names(node, fingerprint)), _place(request, fingerprint))

    def tags_written(self, written: Iterable[str], fingerprint: bytes) -> Tags:
        """The names that a write to the objects *written* changes: theirs, and the places where they are listed."""
        own = dict.fromkeys(name for node in written for name in self._written_names(short(node), fingerprint))
        maybe = (SOMEBODY,) if any(map(str.isdigit, own)) else ()
        return tuple(dict.fromkeys((*own, *maybe, *(place for name in own for place in self._places(name)))))

    def knows(self, key: bytes) -> bool:
        """Whether the body that is held under *key* was learned from."""
        return key in self._young.known or key in self._old.known

    def learn(self, key: bytes, request: Request, fingerprint: bytes, body: bytes) -> tuple[Tags, str]:
        """Learn from *body*, held under *key*; the objects that it lists, and the place that they are listed in."""
        self._learn_id(request, fingerprint, body)
        listed = tuple(dict.fromkeys(map(short, _listed(body))))
        place = _place(request, fingerprint)
        if self._young.size >= self.PLACES:
            self._young, self._old = _Generation(), self._young
        self.learned += 1
        if len(listed) < self.PLACES:  # one that lists more is never known, and so learned from each time
            self._young.add(key, listed, place)
        return listed, place

    def forget(self, key: bytes) -> None:
        """What is held under *key* is another body now."""
        self._young.known.discard(key)
        self._old.known.discard(key)

    def _places(self, name: str) -> Iterator[str]:
        yield from self._young.places.get(name, ())
        yield from self._old.places.get(name, ())

    def _read_names(self, node: str, fingerprint: bytes) -> Iterator[str]:
        if _is_id(node):
            yield node
            return
        own = _own(node, fingerprint)
        yield from dict.fromkeys((own, node))
        yield self._ids.get(own) or SOMEBODY

    def _written_names(self, node: str, fingerprint: bytes) -> tuple[str, ...]:
        """One who writes to a `me` that nobody has heard the id of may be anyone."""
        if _is_id(node):
            return (node,)
        own = _own(node, fingerprint)
        return own, self._ids.get(own) or node

    def _learn_id(self, request: Request, fingerprint: bytes, body: bytes) -> None:
        node = request.path[1:]
        if "/" in node or not node or _is_id(node):
            return
        node = short(node)
        try:
            found = _decode_self(body).id
        except UNREADABLE:
            return
        if found:
            self._ids.put(_own(node, fingerprint), short(found))


class _Generation:
    """What was learned in one stretch of time."""

    __slots__ = ("known", "places", "size")

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.places: dict[str, set[str]] = {}
        self.size = 0

    def add(self, key: bytes, listed: Tags, place: str) -> None:
        self.known.add(key)
        self.size += 1 + len(listed)
        for node in listed:
            self.places.setdefault(node, set()).add(place)


class _Self(msgspec.Struct, gc=False):
    id: str = ""


_decode_self = msgspec.json.Decoder(_Self).decode


def _is_id(node: str) -> bool:
    """Whether *node* names one object for everybody, and has no other name that is learned here."""
    return node[:1].isdigit() or node.startswith("act_")


def _own(node: str, fingerprint: bytes) -> str:
    return f"me@{fingerprint.hex()}" if node == "me" else node


def _about(path: str, query: str) -> tuple[Tags, bool]:
    """The objects that a read is about, those of `ids=` too; with its place, if they all go by their ids."""
    return _about_again(path, query)


def _about_first(path: str, query: str) -> tuple[Tags, bool]:
    ids = named({name: value for name, value in split_pairs(query) if name != "id"}) if "ids" in query else ()
    about = tuple(map(short, (*nodes(path, query), *ids)))
    are_ids = bool(about) and all(map(_is_id, about))
    return ((*about, _spot(path, query)) if are_ids else about), are_ids


_about_again = Memo(_about_first)
"""Programs repeat themselves."""


def _place(request: Request, fingerprint: bytes) -> str:
    """Where *request* looks: an edge, whatever is asked of it, or an object with all that is asked of it."""
    path = request.path
    if path == "/me" or path.startswith("/me/"):
        path = f"{path}@{fingerprint.hex()}"
    return _spot(path, request.query)


def _spot(path: str, query: str) -> str:
    return short(path if "/" in path[1:] else f"{path}?{query}")


_LARGE = 2**18
"""Bytes of a body that is not taken apart to learn from: that would keep other callers waiting."""

_ID_MEMBER = re.compile(rb'"id"\s*:\s*"((?:[^"\\]|\\.)*+)"', re.DOTALL)


def _text(raw: bytes) -> str:
    """The string that *raw* stands for between quotes in JSON; as it is where it stands for none."""
    if b"\\" in raw:
        with contextlib.suppress(*UNREADABLE):
            return str(json_text.decode(b'"%b"' % raw))
    return raw.decode("utf-8", "replace")


def _listed(body: bytes) -> Iterator[str]:
    """The ids of what stands in the lists of *body*, on its top level and below; of a large body all ids in it."""
    if b'"data"' not in body:
        return
    if len(body) > _LARGE:
        yield from (_text(found) for found in _ID_MEMBER.findall(body))
        return
    try:
        waiting: list[Any] = [json_text.decode(body)]
    except UNREADABLE:
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            rows = value.get("data")
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict) and isinstance(row.get("id"), str):
                    yield row["id"]
            waiting.extend(below for below in value.values() if isinstance(below, dict | list))
        else:
            waiting.extend(below for below in value if isinstance(below, dict | list))
