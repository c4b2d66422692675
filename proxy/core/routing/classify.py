"""From the head of a message to a plain read in normal form, or to the word for why it is none.

The route decides how a read travels (its own call or a slot), never the load: an ETag holds for one form of asking.
"""

from __future__ import annotations

import re

import msgspec

from proxy.core.http.cache_control import cache_directives
from proxy.core.http.errors import BadRequest
from proxy.core.model import USUAL_PRIORITY, Channel, Credential, Request
from proxy.core.routing.fields_param import asked_order
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.query import BATCHES
from proxy.core.routing.rules import RuleBook
from proxy.core.routing.target import Target, read_target

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
_SECRET_SEGMENTS = frozenset({"oauth", "debug_token", "access_token", "refresh_access_token"})
_SECRET_NAMES = frozenset({"client_secret", "input_token", "fb_exchange_token"})
_EMPTY_BODIES = frozenset({b"", b"{}", b"[]", b"null", b'""'})
_MAY_WRITE = frozenset({"batch", "parameter-name", "parameters", "text"})
"""What is passed through for these reasons may be a write, for all that can be seen of it."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """A plain read: what to ask, and how the answer is dressed."""

    request: Request
    callback: str  # JSONP: the function that the body is handed to
    order: tuple[str, ...] = ()  # of the fields in the body, where it is to be the caller's own


class Bypass(msgspec.Struct, frozen=True, gc=False):
    """Not a plain read: it passes through, for the reason in one word."""

    reason: str
    writes: bool


def classify(head: Head, body: bytes | None, hosts: GraphHosts, rules: RuleBook) -> Read | Bypass:
    """The plain read that *head* asks for, or why it is none; *body* is None where it is too large to be looked at.

    Raises BadRequest for a `callback` that is not a path of JavaScript identifiers.
    """
    target = read_target(head.target)
    if head.method == "OPTIONS":  # a browser asks before it sends (Fetch section 4.8); whatever it is going to send
        return Bypass("method", writes=False)
    method = target.last("method").upper() or head.method  # `method=` in the query beats the verb
    if method not in _READING or head.method not in _READING:
        return Bypass("method", writes=method not in _SAFE)
    if body is None or body.strip() not in _EMPTY_BODIES:
        return Bypass("body", writes=_body_writes(body))
    host = hosts.of(head)
    reason = _bypass(target, head) or ("" if hosts.takes_reads(host) else "host")
    who = credential(head)
    if reason or isinstance(who, str):
        return Bypass(reason or str(who), writes=reason in _MAY_WRITE)
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
        directives=cache_directives(head.headers),
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
