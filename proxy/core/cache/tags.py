"""Cache tags (surrogate keys): which reads show an object, by its id, by `me` or another name, or in a list.

A tag stands for something that can change: an object's id or name, or a list, by the path of the reads that show it.
A write to an object ends the freshness of every read of that object, of all its edges (`/<id>/…`), and of the lists
elsewhere in which it was seen: `invalidation` records when a tag changed. What lists show is learned from bodies,
for a bounded number of entries. The body of a forgotten entry is searched again before the entry counts as fresh
(`invalidation.must_learn`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from proxy.core.graph.errors import UNREADABLE
from proxy.core.memory import json_text
from proxy.core.memory.memo import LONGEST, Memo, Recent, short
from proxy.core.model import Request
from proxy.core.routing.nodes import named_nodes, nodes
from proxy.core.routing.query import split_pairs

Tags = tuple[str, ...]

UNKNOWN_OBJECT = "?"
"""The tag of an object whose id is not known: a write to any numeric id may be one to it."""


class TagIndex:
    """Finds the tags of reads and writes; learns from bodies which lists show an object, and which id a name has."""

    CAPACITY = 10_000
    """The most pairs of an object and a list in one generation; of two generations, the older is forgotten."""
    NAME_CAPACITY = 4096

    def __init__(self, capacity: int | None = None) -> None:
        """Start with nothing learned; *capacity* replaces `CAPACITY`."""
        self._capacity = capacity or self.CAPACITY
        self._young, self._old = _Generation(), _Generation()
        self.searched = 0  # the number of bodies searched so far
        self._ids = Recent[str, str](self.NAME_CAPACITY)  # id by name, such as a user name, or `me` of a fingerprint

    def tags_read(self, request: Request, fingerprint: bytes) -> Tags:
        """Returns the tags of *request* for the token with *fingerprint*."""
        about, are_ids = _objects_read(request.path, request.query)
        if are_ids or not about:
            return about
        return (
            *(name for node in about for name in self._tags_of_read_node(node, fingerprint)),
            _tag_of_list(request, fingerprint),
        )

    def tags_written(self, written: Iterable[str], fingerprint: bytes) -> Tags:
        """Returns the tags that a write to the objects *written* changes: theirs, and those of lists that show them."""
        own_tags = dict.fromkeys(
            name for node in written for name in self._tags_of_written_node(short(node), fingerprint)
        )
        unknown = (UNKNOWN_OBJECT,) if any(map(str.isdigit, own_tags)) else ()
        return tuple(
            dict.fromkeys((*own_tags, *unknown, *(tag for name in own_tags for tag in self._lists_showing(name))))
        )

    def knows(self, key: bytes) -> bool:
        """Returns whether the body stored under *key* was searched."""
        return key in self._young.known or key in self._old.known

    def learn(self, key: bytes, request: Request, fingerprint: bytes, body: bytes) -> tuple[Tags, str]:
        """Search *body*, stored under *key*; returns the objects that it lists, and the tag of this list."""
        self._learn_id(request, fingerprint, body)
        listed = tuple(dict.fromkeys(map(short, _listed_ids(body))))
        list_tag = _tag_of_list(request, fingerprint)
        self._make_room()
        if len(listed) < self._capacity:  # a longer list is searched again each time
            self._young.add(key, listed, list_tag)
        return listed, list_tag

    def learn_nothing(self, key: bytes, request: Request, body: bytes) -> bool:
        """Returns whether *body* plainly lists nothing and gives no name an id; then it is searched with that."""
        path = request.path
        if may_list_objects(body) or not ("/" in path[1:] or _is_id(path[1:])):
            return False
        self._make_room()
        self._young.known.add(key)
        self._young.size += 1
        return True

    def forget(self, key: bytes) -> None:
        """Forget that the body under *key* was searched: there is another one now."""
        self._young.known.discard(key)
        self._old.known.discard(key)

    def _make_room(self) -> None:
        """Count one more body that is searched; what was learned longest ago makes room for it."""
        if self._young.size >= self._capacity:
            self._young, self._old = _Generation(), self._young
        self.searched += 1

    def _lists_showing(self, name: str) -> Iterator[str]:
        yield from self._young.lists.get(name, ())
        yield from self._old.lists.get(name, ())

    def _tags_of_read_node(self, node: str, fingerprint: bytes) -> Iterator[str]:
        if _is_id(node):
            yield node
            return
        own_name = _own_name(node, fingerprint)
        yield from dict.fromkeys((own_name, node))
        yield self._ids.get(own_name) or UNKNOWN_OBJECT

    def _tags_of_written_node(self, node: str, fingerprint: bytes) -> tuple[str, ...]:
        """Returns the tags of a written object; a `me` of unknown id may be any object."""
        if _is_id(node):
            return (node,)
        own_name = _own_name(node, fingerprint)
        return own_name, self._ids.get(own_name) or node

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
            self._ids.put(_own_name(node, fingerprint), short(found))


class _Generation:
    """What was learned in one period: the keys of searched bodies, and the tags of lists by object."""

    __slots__ = ("known", "lists", "size")

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.lists: dict[str, set[str]] = {}
        self.size = 0

    def add(self, key: bytes, listed: Tags, list_tag: str) -> None:
        self.known.add(key)
        self.size += 1 + len(listed)
        for node in listed:
            self.lists.setdefault(node, set()).add(list_tag)


class _Self(msgspec.Struct, gc=False):
    id: str = ""


_decode_self = msgspec.json.Decoder(_Self).decode


def _is_id(node: str) -> bool:
    """Returns whether *node* is an id: the same object for every token."""
    return node[:1].isdigit() or node.startswith("act_")


def _own_name(node: str, fingerprint: bytes) -> str:
    return f"me@{fingerprint.hex()}" if node == "me" else node


def _objects_read(path: str, query: str) -> tuple[Tags, bool]:
    """Returns the objects of a read, those of `ids=` included, and whether all are ids; if so, with the list's tag."""
    first = path[1:].partition("/")[0]
    if "ids" not in query and _is_id(first):  # quicker than to look it up
        if len(path) + len(query) < LONGEST:
            return (first, path if "/" in path[1:] else f"{path}?{query}"), True
        return (short(first), _tag_of_path(path, query)), True
    return _remembered_objects(path, query)


def _find_objects(path: str, query: str) -> tuple[Tags, bool]:
    ids = named_nodes({name: value for name, value in split_pairs(query) if name != "id"}) if "ids" in query else ()
    about = tuple(map(short, (*nodes(path, query), *ids)))
    are_ids = bool(about) and all(map(_is_id, about))
    return ((*about, _tag_of_path(path, query)) if are_ids else about), are_ids


_remembered_objects = Memo(_find_objects)
"""Remembers the objects of recent reads: programs repeat themselves."""


def _tag_of_list(request: Request, fingerprint: bytes) -> str:
    """Returns the tag of the list that *request* reads: its edge without the query, or its object with the query."""
    path = request.path
    if path == "/me" or path.startswith("/me/"):
        path = f"{path}@{fingerprint.hex()}"
    return _tag_of_path(path, request.query)


def _tag_of_path(path: str, query: str) -> str:
    return short(path if "/" in path[1:] else f"{path}?{query}")


_LARGE = 2**18
"""The largest body in bytes that is parsed to find ids: parsing a larger one would keep other callers waiting."""

_ID_MEMBER = re.compile(rb'"id"\s*:\s*"((?:[^"\\]|\\.)*+)"', re.DOTALL)


def _json_string(raw: bytes) -> str:
    """Returns the string whose JSON text between the quotes is *raw*; *raw* itself if it is no valid JSON."""
    if b"\\" in raw:
        with contextlib.suppress(*UNREADABLE):
            return str(json_text.decode(b'"%b"' % raw))
    return raw.decode("utf-8", "replace")


def may_list_objects(body: bytes) -> bool:
    """Returns whether *body* may have a list of objects: those are in members called `data`."""
    return json_text.may_be_nested(body) and b'"data"' in body


def _listed_ids(body: bytes) -> Iterator[str]:
    """Yields the ids of the objects in all lists of *body*, nested ones included; of a large body every `id` in it."""
    if not may_list_objects(body):
        return
    if len(body) > _LARGE:
        yield from (_json_string(found) for found in _ID_MEMBER.findall(body))
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
