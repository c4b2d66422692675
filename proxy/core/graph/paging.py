r"""Rewrites paging links so that they lead back to the sidecar; no other byte of the body changes.

Graph's links are absolute and carry the token (developers.facebook.com/docs/graph-api/results); a client that follows
them unchanged would leave the sidecar on its second page. Links stand in `paging` objects, nested edges have their own,
and slashes are written `\/`. `reply/link_origin` decides where they lead.

`as_asked_alone` is applied to each slot of a batch: by `core/batch/response` and `core/fast_path/batch_answer`, by
`core/client_batch/slots` for an application's batch, and by `core/reply/passed_paging_links` for a batch that passes
through.

`rewrite` is called by `reply/render`, `reply/passed_paging_links`, `shell/downstream/client_batch_slots`, and by
`shell/downstream/fast_flights` for the fast path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from proxy.core.memory import json_text

_PAGING = re.compile(rb'(?<!\\)"paging"\s*:\s*\{')
_MARK = re.compile(rb'"((?:[^"\\]|\\.)*+)"?|[{}]', re.DOTALL)
_OPENING_OR_LINK = re.compile(rb'"(?<!\\")(?:(paging)"\s*:\s*\{|(?:next|previous)"\s*:\s*")')
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_OPENING = re.compile(rb"\s*:\s*\{")
_LINK_VALUE = re.compile(rb'\s*:\s*"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ORIGIN = re.compile(rb"https?:(?:\\?/){2}([^/\\?\"]+)")
_LINKS = frozenset({b"next", b"previous"})
_AMPERSAND = rb"(?:&|\\u0026)"
_TRANSPORT = re.compile(rb"(?:(?<=\?)|(?P<before>" + _AMPERSAND + rb"))_fb_(?:(?!" + _AMPERSAND + rb").)*+", re.DOTALL)
_GAP = re.compile(rb"\?" + _AMPERSAND + rb"|\?\Z")


def rewrite(body: bytes, hosts: AbstractSet[str], origin: str) -> bytes:
    """Returns *body* with scheme and authority of every paging link to one of *hosts* replaced by *origin*."""

    def with_our_origin(link: bytes) -> bytes:
        found = _ORIGIN.match(link)
        if found is None or found.group(1).decode("latin-1").lower() not in hosts:
            return link
        ours = origin.replace("/", "\\/") if b"\\/" in found.group() else origin
        return ours.encode() + link[found.end() :]

    return _changed(body, with_our_origin)


def as_asked_alone(body: bytes) -> bytes:
    """Returns *body* with paging links as on a direct reply: without the `_fb_` parameters that Graph adds in a batch.

    Graph refuses a link that carries them when it is followed (arsduo/koala, issue 388).
    """
    return _changed(body, _without_transport) if b"_" in body and b"_fb_" in body and may_have_links(body) else body


def may_have_links(body: bytes) -> bool:
    """Returns whether *body* may have paging links: `paging` is an object within another."""
    return json_text.may_be_nested(body) and b'"paging"' in body


def _without_transport(link: bytes) -> bytes:
    return _GAP.sub(lambda gap: gap[0][:1] if len(gap[0]) > 1 else b"", _TRANSPORT.sub(b"", link))


def _changed(body: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Returns *body* with *change* applied to every paging link."""
    pieces, done = [], 0
    for start, end in _links(body):
        if (link := body[start:end]) != (new := change(link)):
            pieces += [body[done:start], new]
            done = end
    return b"".join([*pieces, body[done:]]) if pieces else body


def _links(body: bytes) -> Iterator[tuple[int, int]]:
    """Yields start and end of each `next` and `previous` link in `paging` objects, from left to right.

    Most of a body is only searched for openings of `paging` objects and for links. The text between an opening and the
    next link is read mark by mark, to see whether the object is still open. If it is closed, and an earlier object may
    still be open, the whole body is read mark by mark.
    """
    at, openings, done = 0, 0, -1
    is_paging: list[bool] = []  # of each object that is open, whether it is a paging one
    for found in _OPENING_OR_LINK.finditer(body):
        if found[1]:
            at, openings, is_paging = found.end(), openings + 1, [True]
            continue
        at = _read_on(body, at, found.start(), is_paging)
        if not is_paging and openings > 1:
            yield from (span for span in _links_one_by_one(body) if span[0] > done)
            return
        if is_paging and is_paging[-1] and at <= found.start() and (value := _STRING.match(body, found.end() - 1)):
            at, done = value.end(), value.start(1)
            yield value.span(1)


def _read_on(body: bytes, at: int, end: int, is_paging: list[bool]) -> int:
    """Read the marks between *at* and *end*, updating *is_paging*; returns where the last of them ends."""
    while is_paging and (mark := _MARK.search(body, at)) and mark.start() < end:
        at = _read_mark(body, mark, is_paging)
    return at


def _read_mark(body: bytes, mark: re.Match[bytes], is_paging: list[bool]) -> int:
    if mark.group() == b"{":
        is_paging.append(False)
    elif mark.group() == b"}":
        is_paging.pop()
    elif mark.group(1) == b"paging" and (opening := _OPENING.match(body, mark.end())):
        is_paging.append(True)
        return opening.end()
    return mark.end()


def _links_one_by_one(body: bytes) -> Iterator[tuple[int, int]]:
    """Yields the same for nested `paging` objects; reads each byte once."""
    at = 0
    while paging := _PAGING.search(body, at):
        at, is_paging = paging.end(), [True]
        while is_paging and (mark := _MARK.search(body, at)):
            at = mark.end()
            if is_paging[-1] and mark.group(1) in _LINKS and (value := _LINK_VALUE.match(body, at)):
                at = value.end()
                yield value.span(1)
            else:
                at = _read_mark(body, mark, is_paging)
