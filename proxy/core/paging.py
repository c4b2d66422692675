r"""Paging links: pointed back at the way the caller came in, found in the text so that no other byte of it changes.

Graph's links are absolute and carry the token (developers.facebook.com/docs/graph-api/results); a client that follows
them unchanged would leave the sidecar on its second page. Links stand in `paging` objects, nested edges have their own,
and slashes are written `\/`.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

_PAGING = re.compile(rb'(?<!\\)"paging"\s*:\s*\{')
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|[{}]')
_LINK_VALUE = re.compile(rb'\s*:\s*"((?:[^"\\]|\\.)*)"')
_ORIGIN = re.compile(rb"https?:(?:\\?/){2}([^/\\?\"]+)")


def rewrite(body: bytes, hosts: AbstractSet[str], origin: str) -> bytes:
    """*body* with the scheme and authority of every paging link on one of *hosts* replaced by *origin*."""
    edits = [edit for start in _PAGING.finditer(body) for edit in _links(body, start.end(), hosts)]
    if not edits:
        return body
    pieces, done = [], 0
    for start, end, escaped in sorted(set(edits)):
        pieces += [body[done:start], (origin.replace("/", "\\/") if escaped else origin).encode()]
        done = end
    return b"".join([*pieces, body[done:]])


def _links(body: bytes, at: int, hosts: AbstractSet[str]) -> list[tuple[int, int, bool]]:
    """Where the origins of `next` and `previous` stand in the object opened before *at*, and whether `/` is escaped."""
    found, depth = [], 1
    while depth and (token := _TOKEN.search(body, at)):
        at = token.end()
        depth += {b"{": 1, b"}": -1}.get(token.group(), 0)
        if depth == 1 and token.group(1) in {b"next", b"previous"} and (value := _LINK_VALUE.match(body, at)):
            at = value.end()
            origin = _ORIGIN.match(body, value.start(1), value.end(1))
            if origin and origin.group(1).decode("latin-1").lower() in hosts:
                found.append((origin.start(), origin.end(), b"\\/" in origin.group()))
    return found
