"""From the head of a message to a plain read in normal form, or to the word for why it is none.

The route decides how a read travels (its own call or a slot), never the load: an ETag holds for one form of asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from proxy.core.errors import BadRequest
from proxy.core.messages import NO_WISHES, USUAL_PRIORITY, Channel, Credential, Discreet, Request, Wishes
from proxy.core.normal import BATCHES, Target, read_target
from proxy.core.ordering import asked_order
from proxy.core.rules import RuleBook

HOSTS_THAT_BATCH = frozenset({"graph.facebook.com", "graph.beta.facebook.com"})
"""Hosts whose root takes batches; of Instagram's and Threads' nothing says so."""

HOSTS_OF_READS = HOSTS_THAT_BATCH | {"graph.instagram.com", "graph.threads.net", "graph.threads.com"}
"""Meta's hosts that answer reads with JSON; the others carry uploads and streams, which pass through."""

UPLOAD = "upload:"
"""How the id of a resumable upload begins: its bytes matter, and its `file_offset` moves (…/guides/upload)."""

NO_CALLBACK = "?"
"""What jQuery replaces by the name of a function; where it does not, Graph shall say what it makes of that."""

CONDITIONS = frozenset({"range", "if-range", "if-match", "if-unmodified-since"})
"""Request fields that ask for something other than the whole current body (RFC 9110 sections 13 and 14)."""

_READING = frozenset({"GET", "HEAD"})
_SAFE = _READING | {"OPTIONS"}
_CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*|\[\d{1,9}\])*\Z", re.ASCII)
_REFERENCE = re.compile(r"%7B(?:%20)*result", re.IGNORECASE)
_PLAIN_FORM = re.compile(rb"[\w.~+&=,:()-]*")
_URGENCY = re.compile(r"(?:^|,)[ \t]*u=([0-7])[ \t]*(?=[;,]|$)", re.ASCII)
_DEFAULT_PORTS = re.compile(r":(?:80|443)\Z")
_SECRET_SEGMENTS = frozenset({"oauth", "debug_token", "access_token", "refresh_access_token"})
_SECRET_NAMES = frozenset({"client_secret", "input_token", "fb_exchange_token"})
_EMPTY_BODIES = frozenset({b"", b"{}", b"[]", b"null", b'""'})
_MOST_SECONDS = 2**31
_AGES = {"max-age": 0, "min-fresh": _MOST_SECONDS, "max-stale": 0, "stale-if-error": 0}
"""Directives that say how old an answer may be, and what each comes to when its number cannot be read."""
_MAY_WRITE = frozenset({"batch", "parameter-name", "parameters", "text"})
"""What is passed through for these reasons may be a write, for all that can be seen of it."""


class Head(Discreet, frozen=True, gc=False):
    """What of a message's head decides anything here; header names in lower case, several of one name in a row.

    Target and headers hold tokens.
    """

    hidden = ("target", "headers")

    method: str
    target: str
    headers: Mapping[str, str]


class Read(msgspec.Struct, frozen=True, gc=False):
    """A plain read: what to ask, and how the answer is dressed."""

    request: Request
    callback: str  # JSONP: the function that the body is handed to
    order: tuple[str, ...] = ()  # of the fields in the body, where it is to be the caller's own


class Skip(msgspec.Struct, frozen=True, gc=False):
    """Not a plain read: it passes through, for the reason in one word."""

    reason: str
    writes: bool


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where calls go: *origin* unless the caller names one of *others* (authorities in lower case)."""

    origin: str
    others: frozenset[str]

    @property
    def linked(self) -> frozenset[str]:
        """The authorities whose links lead to Graph, whatever stands between the sidecar and it."""
        return self.others | {self.origin, "graph.facebook.com"}

    def of(self, head: Head) -> str:
        """The authority of Graph's that *head* is for."""
        named = _named_host(head)
        return named if named in self.others else self.origin

    def knows(self, head: Head) -> bool:
        """Whether *head* names an authority of Graph's."""
        return _named_host(head) in self.linked

    def by_name(self, head: Head) -> bool:
        """Whether the caller spoke to Graph by Graph's own name, so that links to it come back here by themselves."""
        named = _named_host(head)
        return named == self.origin or named in self.others or named in HOSTS_THAT_BATCH

    def takes_reads(self, host: str) -> bool:
        """Whether reads of *host* are JSON that can be held."""
        return host == self.origin or host in HOSTS_OF_READS

    def takes_batches(self, host: str) -> bool:
        """Whether the root of *host* takes batches."""
        return host in HOSTS_THAT_BATCH or (host == self.origin and host not in HOSTS_OF_READS)


def read(head: Head, body: bytes | None, hosts: Hosts, rules: RuleBook) -> Read | Skip:
    """The plain read that *head* asks for, or why it is none; *body* is None where it is too large to be looked at.

    Raises BadRequest for a `callback` that is not a path of JavaScript identifiers.
    """
    target = read_target(head.target)
    if head.method == "OPTIONS":  # a browser asks before it sends (Fetch section 4.8); whatever it is going to send
        return Skip("method", writes=False)
    method = target.last("method").upper() or head.method  # `method=` in the query beats the verb
    if method not in _READING or head.method not in _READING:
        return Skip("method", writes=method not in _SAFE)
    if body is None or body.strip() not in _EMPTY_BODIES:
        return Skip("body", writes=_body_writes(body))
    host = hosts.of(head)
    reason = _bypass(target, head) or ("" if hosts.takes_reads(host) else "host")
    who = credential(head)
    if reason or isinstance(who, str):
        return Skip(reason or str(who), writes=reason in _MAY_WRITE)
    rule = rules.rule(target.path, target.get("fields"), target.version)
    may_ride = hosts.takes_batches(host) and rule.batch
    channel = Channel.BATCH if may_ride and who and _means_the_same(target, who) else Channel.DIRECT
    urgency = priority(head.headers.get("priority", ""), rule.priority)
    request = _request(head, target, host, who, channel, urgency=urgency)
    order = asked_order(target.fields) if rule.merge else ()  # merging takes bodies apart in any case
    return Read(request, checked_callback(target.last("callback")), order)


def may_write(verb: str, target: str, *, has_body: bool) -> bool:
    """Whether a message may change something, as far as its head tells; what is not clearly a read may."""
    if verb == "OPTIONS":
        return has_body
    taken = read_target(target)
    verbs = {verb, taken.last("method").upper() or verb}
    return has_body or bool(taken.odd) or not verbs <= _SAFE


def credential(head: Head) -> Credential | str | None:
    """Who asks; a word instead where the message names two, or half of one, for then only Graph can say who it is."""
    target = read_target(head.target)
    proof, time = target.last("appsecret_proof"), target.last("appsecret_time")
    tokens = set(target.lifted.get("access_token", ()))
    if "authorization" in head.headers:
        scheme, *words = head.headers["authorization"].split() or [""]
        if scheme.lower() not in {"bearer", "oauth"} or len(words) != 1:
            return "authorization"
        tokens.update(words)
    if len(tokens) > 1 or "" in tokens or (not tokens and (proof or time)):
        return "credentials"
    return Credential(tokens.pop(), proof, time) if tokens else None


def wishes(headers: Mapping[str, str]) -> Wishes:
    """What the caller's Cache-Control, Pragma and If-None-Match ask for (RFC 9111 sections 5.2.1 and 5.4)."""
    control, tags = headers.get("cache-control", ""), headers.get("if-none-match", "")
    if not control and not tags and "pragma" not in headers:
        return NO_WISHES
    given = dict(reversed(list(_directives(control))))  # the first of several counts (RFC 9111 section 4.2.1)
    pragma = "cache-control" not in headers and "no-cache" in headers.get("pragma", "").lower()
    if given.get("max-stale") == "":  # without a value: however stale (RFC 9111 section 5.2.1.2)
        given["max-stale"] = str(_MOST_SECONDS)
    ages = {name: _seconds(given[name], strictest) for name, strictest in _AGES.items() if name in given}
    return Wishes(
        no_cache="no-cache" in given or pragma,
        no_store="no-store" in given,
        only_if_cached="only-if-cached" in given,
        max_age=ages.get("max-age"),
        min_fresh=ages.get("min-fresh"),
        max_stale=ages.get("max-stale"),
        stale_if_error=ages.get("stale-if-error"),
        if_none_match=tags,
    )


def matches(if_none_match: str, etag: str) -> bool:
    """Whether *etag* is among the caller's tags, weakly compared (RFC 9110 sections 8.8.3.2 and 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in re.findall(r'"[^"]*"', if_none_match)


def _named_host(head: Head) -> str:
    """The authority that the caller named, without a port that says nothing."""
    named = read_target(head.target).authority or head.headers.get("host", "").lower()
    return _DEFAULT_PORTS.sub("", named)


def _bypass(target: Target, head: Head) -> str:
    """Why *target* goes straight through; of paths, those that deal in secrets, or whose replies are no JSON.

    (Meta's guides to access tokens and pictures; Instagram and Threads exchange tokens at their root.)
    """
    if target.odd:
        return target.odd
    if not CONDITIONS.isdisjoint(head.headers):
        return "range"
    if "text/event-stream" in head.headers.get("accept", "").lower():
        return "stream"
    if not _is_field(head.headers.get("accept-language", "")):
        return "language"
    if target.last("callback") == NO_CALLBACK:
        return "callback"
    names = {name for name, _ in target.pairs}
    if not names.isdisjoint(BATCHES):
        return "batch"
    segments = target.path[1:].lower().split("/")
    if segments[0].startswith(UPLOAD):
        return "upload"
    if not names.isdisjoint(_SECRET_NAMES) or not _SECRET_SEGMENTS.isdisjoint(segments):
        return "secret"
    return "picture" if segments[-1] == "picture" else ""


def _is_field(value: str) -> bool:
    """Whether *value* can stand in a header field of a slot, which is text in JSON that no parser here has checked."""
    return value.isascii() and value.isprintable()


def priority(told: str, ruled: int | None) -> int:
    """The urgency that the caller's Priority field names (RFC 9218 section 4.1), else the rule's, else the usual."""
    named = _URGENCY.findall(told)
    if named:
        return int(named[-1])  # of several members of one name the last counts (RFC 9651 section 4.2.2)
    return USUAL_PRIORITY if ruled is None else ruled


def _request(
    head: Head, target: Target, host: str, who: Credential | None, channel: Channel, *, urgency: int
) -> Request:
    return Request(
        host=host,
        version=target.version,
        path=target.path,
        query=target.query,
        language=head.headers.get("accept-language", "").strip(),
        credential=who,
        channel=channel,
        wishes=wishes(head.headers),
        priority=urgency,
    )


def _means_the_same(target: Target, who: Credential) -> bool:
    """Whether this read means the same in a batch as alone.

    `{result=name:…}` is a reference there and text here; `suppress_http_code` speaks of a whole call.
    """
    from_caller = f"{target.path}?{target.query}"
    names_a_slot = _REFERENCE.search(from_caller) or "{" in who.token + who.proof + who.time
    return not names_a_slot and not target.get("suppress_http_code")


def checked_callback(callback: str) -> str:
    """*callback* as it came, "" for none. Raises BadRequest unless it is a path of JavaScript identifiers."""
    if callback and not _CALLBACK.match(callback):
        raise BadRequest("callback must be a path of JavaScript identifiers, such as app.got or cb[0]")
    return callback


def _body_writes(body: bytes | None) -> bool:
    """Whether the body of a GET may make a write of it; what cannot be read is taken for one."""
    return body is None or b"method" in body or not _PLAIN_FORM.fullmatch(body)


def _directives(control: str) -> Iterable[tuple[str, str]]:
    for piece in control.split(","):
        name, _, value = piece.strip().partition("=")
        yield name.strip().lower(), value.strip().strip('"')


def _seconds(text: str, strictest: int) -> int:
    """A number of seconds, at most 2^31 (RFC 9111 section 1.2.2); one that cannot be read wants nothing old."""
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdecimal()):
        return strictest
    return min(int(digits or "0"), _MOST_SECONDS) if len(digits) <= 10 else _MOST_SECONDS
