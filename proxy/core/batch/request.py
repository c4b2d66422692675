"""Encodes reads as one batch call to Graph's root, and chooses the call's top-level token."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from proxy.core.graph.errors import Blame
from proxy.core.memory.memo import Recent, memo
from proxy.core.model import Credential, Request
from proxy.core.routing.query import form, form_value, join_pairs

MOST_LEAD_TOKENS = 3
"""The most credentials that one batch is tried with at its top level."""


def encode_batch(requests: Sequence[Request], top: Credential) -> bytes:
    """Returns the urlencoded body of one batch call for *requests*, with *top* as its top-level credential.

    Raises ValueError for a request without a token of its own.
    """
    return batch_body([batch_part(request) for request in requests], top)


def batch_part(request: Request) -> bytes:
    """Returns *request* as an operation of a batch, urlencoded as it stands in the body of the batch call.

    Every operation carries its own token and proof: the top-level token is a fallback, and would lend its rights to an
    operation without a token. Raises ValueError for a request without one.
    """
    if request.credential is None:
        raise ValueError("an operation without a token of its own never enters a batch")
    return form_value(msgspec.json.encode(operation(request)).decode())


def split_at_node(part: bytes, request: Request) -> tuple[bytes, bytes] | None:
    """Returns *part*, which `batch_part` made of *request*, before and behind the object; None if it has another form.

    The same read of another object, of whose id no character is escaped, has that between these two.
    """
    before = form_value(f'{{"method":"GET","relative_url":"{request.version and f"{request.version}/"}')
    node = request.path[1:].partition("/")[0].encode()
    return (before, part[len(before) + len(node) :]) if part.startswith(before + node) else None


def split_at_validator(part: bytes, request: Request) -> tuple[bytes, bytes, bytes] | None:
    """Returns *part*, which `batch_part` made of *request*, around the object and the validator; None for another form.

    The same read of another object with another validator has these between the three, the latter as of `tag_in_part`.
    """
    around, tag = split_at_node(part, request), tag_in_part(request.validator)
    if around is None or tag is None or around[1].count(tag) != 1:
        return None
    between, _, behind = around[1].partition(tag)
    return around[0], between, behind


def tag_in_part(tag: str) -> bytes | None:
    """Returns the entity tag *tag* as it stands in an operation of a batch; None if it has unusual characters."""
    inner = tag[1:-1]
    is_plain = inner.isalnum() and inner.isascii() and tag[0] == tag[-1] == '"'
    return b"%%5C%%22%b%%5C%%22" % inner.encode() if is_plain else None


def batch_body(parts: Sequence[bytes], top: Credential) -> bytes:
    """Returns the urlencoded body of one batch call of these `batch_part`s, with *top* as its top-level credential."""
    return b"%b&include_headers=true&batch=%%5B%b%%5D" % (_top_level(top), b"%2C".join(parts))


@memo()
def _top_level(top: Credential) -> bytes:
    return form(top.parameters)


def relative_url(request: Request) -> str:
    """Returns the `relative_url` of *request*: version as asked, path, normal query, the caller's token and proof."""
    credentials = "" if request.credential is None else vouching(request.credential)
    separator = "&" if credentials and request.query else ""
    return f"{request.version}{request.path}?{request.query}{separator}{credentials}".removeprefix("/").removesuffix(
        "?"
    )


@memo()
def vouching(credential: Credential) -> str:
    """Returns the query parameters that send *credential*."""
    return join_pairs(tuple(credential.parameters.items()))


def operation(request: Request) -> dict[str, Any]:
    """Returns *request* as an operation of a batch, with its validator."""
    # The batch call has the language too, but Meta's pages do not say that operations inherit it.
    named = {"If-None-Match": request.validator, "Accept-Language": request.language}
    item: dict[str, Any] = {"method": "GET", "relative_url": relative_url(request)}
    if fields := [f"{name}: {value}" for name, value in named.items() if value]:
        item["headers"] = fields
    return item


_CREDENTIAL = attrgetter("credential")


class LeadTokens:
    """Chooses the top-level credential of a batch; leaves out those that Graph has refused there lately."""

    REST_S = 60
    PLACES = 1024

    def __init__(self) -> None:
        """Start with no refused credentials."""
        self._rested = Recent[Credential, tuple[float, Blame]](self.PLACES)

    def choose(self, requests: Sequence[Request], now: float) -> Credential | None:
        """Returns a credential of *requests* for the top level; None if Graph has refused all their tokens.

        A credential that is only out of quota is better than none: in a batch the ETags of these reads stay valid.
        """
        if not self._rested.bytes:
            return next(filter(None, map(_CREDENTIAL, requests)), None)
        credentials = [request.credential for request in requests if request.credential]
        free = (known for known in credentials if self._rest_until(known)[0] <= now)
        spent = (known for known in credentials if self._rest_until(known)[1] is Blame.QUOTA)
        return next(free, None) or next(spent, None)

    def refuse(self, credential: Credential, blame: Blame, now: float) -> None:
        """Keep *credential* off the top level for a while, because Graph refused it for *blame*."""
        self._rested.put(credential, (now + self.REST_S, blame))

    def _rest_until(self, credential: Credential) -> tuple[float, Blame]:
        return self._rested.get(credential) or (0.0, Blame.OTHER)
