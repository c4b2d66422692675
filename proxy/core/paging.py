r"""Paging links: pointed back at the way the caller came in, found in the text so that no other byte of it changes.

Graph's links are absolute and carry the token (developers.facebook.com/docs/graph-api/results); a client that follows
them unchanged would leave the sidecar on its second page. Links stand in `paging` objects, nested edges have their own,
and slashes are written `\/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

_PAGING = re.compile(rb'(?<!\\)"paging"\s*:\s*\{')
_MARK = re.compile(rb'"((?:[^"\\]|\\.)*+)"?|[{}]', re.DOTALL)
_OPENING = re.compile(rb"\s*:\s*\{")
_LINK_VALUE = re.compile(rb'\s*:\s*"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ORIGIN = re.compile(rb"https?:(?:\\?/){2}([^/\\?\"]+)")
_LINKS = frozenset({b"next", b"previous"})


def rewrite(body: bytes, hosts: AbstractSet[str], origin: str) -> bytes:
    """*body* with the scheme and authority of every paging link on one of *hosts* replaced by *origin*."""
    pieces, done = [], 0
    for link in _links(body):
        if link.group(1).decode("latin-1").lower() in hosts:
            ours = origin.replace("/", "\\/") if b"\\/" in link.group() else origin
            pieces += [body[done : link.start()], ours.encode()]
            done = link.end()
    return b"".join([*pieces, body[done:]]) if pieces else body


def _links(body: bytes) -> Iterator[re.Match[bytes]]:
    """The origins of `next` and `previous` in every `paging` object, from left to right; each byte is read once."""
    at = 0
    while paging := _PAGING.search(body, at):
        at, is_paging = paging.end(), [True]  # of each object that is open, whether it is a paging one
        while is_paging and (mark := _MARK.search(body, at)):
            at = mark.end()
            if mark.group() == b"{":
                is_paging.append(False)
            elif mark.group() == b"}":
                is_paging.pop()
            elif mark.group(1) == b"paging" and (opening := _OPENING.match(body, at)):
                at = opening.end()
                is_paging.append(True)
            elif is_paging[-1] and mark.group(1) in _LINKS and (value := _LINK_VALUE.match(body, at)):
                at = value.end()
                if origin := _ORIGIN.match(body, value.start(1), value.end(1)):
                    yield origin
