"""What is told of one reply: enough to see how it came about and to play the traffic again, and nothing secret.

Ids, words of ours and keyed hashes: no token, no query, no name that somebody chose.
"""

from __future__ import annotations

import re

import msgspec

from proxy.core import routes
from proxy.core.keys import Keys
from proxy.core.messages import Mode, Reply, Request
from proxy.core.normal import field_names, fields_in, nodes

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DIGITS = 6
"""Digits that a field's name may hold; a secret in hexadecimal has more."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log; times in milliseconds, `age_s` in seconds. What does not apply is left out."""

    mode: str
    status: int
    method: str
    host: str
    version: str
    route: str
    path: str  # with its ids, without names
    app: str  # the token's fingerprint, its first 12 digits
    total_ms: float
    node: str = ""  # the object that is asked about, where it is named by an id
    fields: str = ""  # the top level of `fields`; of what has braces or arguments the name alone, and a mark
    key: str = ""  # the entry's name, its first 16 digits: equal for equal reads
    body: str = ""  # equal for equal answers
    detail: str = ""
    batch: str = ""
    calls: int = 1
    avoided: int = 0
    writes: bool = False
    size: int = 0
    age_s: float | None = None
    window_ms: float | None = None
    upstream_ms: float | None = None

    def __str__(self) -> str:
        """The short form, for people."""
        parts = [self.mode, str(self.status), self.method, self.route, f"{self.total_ms:.1f} ms", f"app {self.app}"]
        named = {"batch": self.batch, "avoided": self.avoided or "", "": self.detail}
        return " ".join([*parts, *(f"{name} {value}".strip() for name, value in named.items() if value)])


class Passage(msgspec.Struct, frozen=True, gc=False):
    """A message that passes through, or an operation that is no read: what of it is told."""

    method: str
    host: str
    version: str
    path: str
    query: str
    reason: str
    writes: bool


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of it, as its caller got it."""

    status: int
    size: int
    seconds: float
    calls: int
    avoided: int = 0


def of_read(request: Request, reply: Reply, outcome: Outcome, route: str, keys: Keys) -> Told:
    """What is told of a *reply* to a read."""
    return Told(
        mode=reply.mode.value,
        status=outcome.status,
        method="GET",
        host=request.host,
        version=request.version,
        route=route,
        path=routes.shown(request.path),
        app=keys.fingerprint(request.credential).hex()[:12],
        total_ms=_ms(outcome.seconds),
        node=_node(request.path, request.query),
        fields=shown_fields(request.query),
        key=keys.entry(request).hex()[:16],
        body=keys.mark((reply.header("etag") or "").encode("utf-8", "surrogateescape") or reply.body).hex(),
        detail=reply.detail,
        batch=reply.batch,
        calls=outcome.calls,
        avoided=outcome.avoided,
        size=outcome.size,
        age_s=None if reply.age is None else round(reply.age, 3),
        window_ms=None if reply.window_s is None else _ms(reply.window_s),
        upstream_ms=None if reply.upstream_s is None else _ms(reply.upstream_s),
    )


def of_passage(passage: Passage, outcome: Outcome, route: str, app: str, batch: str) -> Told:
    """What is told of a message that passed through."""
    return Told(
        mode=Mode.SKIPPED.value,
        status=outcome.status,
        method=passage.method if passage.method.isalpha() and len(passage.method) < 10 else "?",
        host=passage.host,
        version=passage.version,
        route=route,
        path=routes.shown(passage.path),
        app=app,
        total_ms=_ms(outcome.seconds),
        node=_node(passage.path, passage.query),
        detail=passage.reason,
        batch=batch,
        calls=outcome.calls,
        writes=passage.writes,
    )


def of_failure(word: str, status: int, route: str) -> Told:
    """What is told where a message got an error of ours, and nothing more is known of it."""
    return Told(Mode.FAILED.value, status, "", "", "", route, "", "", 0, detail=word, calls=0)


def shown_fields(query: str) -> str:
    """The top level of `fields` without what may hide in it; "…" stands for arguments and fields below."""
    return ",".join(filter(None, map(_shown_field, field_names(fields_in(query))))) if "fields=" in query else ""


def _shown_field(name: str) -> str:
    found = _FIELD.match(name)
    if found is None or sum(map(str.isdigit, found.group())) > _DIGITS:
        return "…"
    return found.group() if found.end() == len(name) else f"{found.group()}…"


def _node(path: str, query: str) -> str:
    first = next(iter(nodes(path, query)), "")
    return first if first == "me" or routes.is_id(first) else ""


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
