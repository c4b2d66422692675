"""Classifies a message: a plain read in normal form, or the reason why it passes through.

The rule and the host decide whether a read goes in a batch or alone, never the load: an ETag is valid for one channel.
"""

from __future__ import annotations

import re

import msgspec

from proxy.core.graph.jsonp import NO_CALLBACK, checked_callback
from proxy.core.http.cache_control import cache_directives
from proxy.core.model import USUAL_PRIORITY, Channel, Credential, Request
from proxy.core.routing.fields_param import asked_order
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.normal_form import Target, read_target
from proxy.core.routing.query import BATCHES
from proxy.core.routing.rules import RuleBook

UPLOAD = "upload:"
"""The prefix of a resumable upload's id; its `file_offset` changes with every byte sent (…/guides/upload)."""


CONDITIONS = frozenset({"range", "if-range", "if-match", "if-unmodified-since"})
"""Request fields that ask for something other than the whole current body (RFC 9110 sections 13 and 14)."""

_READ_METHODS = frozenset({"GET", "HEAD"})
_SAFE_METHODS = _READ_METHODS | {"OPTIONS"}
_REFERENCE = re.compile(r"%7B(?:%20)*result", re.IGNORECASE)
_PLAIN_FORM = re.compile(rb"[\w.~+&=,:()-]*")
_URGENCY = re.compile(r"(?:^|,)[ \t]*u=([0-7])[ \t]*(?=[;,]|$)", re.ASCII)
_SECRET_SEGMENTS = frozenset({"oauth", "debug_token", "access_token", "refresh_access_token"})
_SECRET_NAMES = frozenset({"client_secret", "input_token", "fb_exchange_token"})
_EMPTY_BODIES = frozenset({b"", b"{}", b"[]", b"null", b'""'})
_MAY_WRITE = frozenset({"batch", "parameter-name", "parameters", "text"})
"""The reasons for which a message passes through that may be a write."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """A plain read: what to ask Graph, and how to render the answer."""

    request: Request
    callback: str  # JSONP: the name of the function, "" for none
    order: tuple[str, ...] = ()  # the caller's own order of fields, () where the normal order is the same


class Bypass(msgspec.Struct, frozen=True, gc=False):
    """A message that passes through: the reason in one word, and whether it may be a write."""

    reason: str
    writes: bool


def classify(head: Head, body: bytes | None, hosts: GraphHosts, rules: RuleBook) -> Read | Bypass:
    """Returns the plain read that *head* asks for, or why it is none; *body* is None if it is too large to look at.

    Raises BadRequest for a `callback` that is not a path of JavaScript identifiers.
    """
    target = read_target(head.target)
    if head.method == "OPTIONS":  # a browser's preflight (Fetch section 4.8)
        return Bypass("method", writes=False)
    method = target.last("method").upper() or head.method  # `method=` in the query beats the verb
    if method not in _READ_METHODS or head.method not in _READ_METHODS:
        return Bypass("method", writes=method not in _SAFE_METHODS)
    if body is None or body.strip() not in _EMPTY_BODIES:
        return Bypass("body", writes=_body_writes(body))
    host = hosts.of(head)
    reason = _bypass_reason(target, head) or ("" if hosts.takes_reads(host) else "host")
    caller = credential(head)
    if reason or isinstance(caller, str):
        return Bypass(reason or str(caller), writes=reason in _MAY_WRITE)
    rule = rules.rule(target.path, target.get("fields"), target.version)
    may_batch = hosts.takes_batches(host) and rule.batch
    channel = Channel.BATCH if may_batch and caller and _means_the_same(target, caller) else Channel.DIRECT
    urgency = priority(head.headers.get("priority", ""), rule.priority)
    request = _request(head, target, host, caller, channel, urgency=urgency)
    order = asked_order(target.fields) if rule.merge else ()  # without merging, a body need not be parsed
    return Read(request, checked_callback(target.last("callback")), order)


def may_write(verb: str, target: str, *, has_body: bool) -> bool:
    """Returns whether a message may change something, by its head: every message may that is not clearly a read."""
    if verb == "OPTIONS":
        return has_body
    taken = read_target(target)
    verbs = {verb, taken.last("method").upper() or verb}
    return has_body or bool(taken.odd) or not verbs <= _SAFE_METHODS


def credential(head: Head) -> Credential | str | None:
    """Returns the caller's credential, None without one; a reason to bypass if there are two or an incomplete one."""
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


def _bypass_reason(target: Target, head: Head) -> str:
    """Returns why *target* passes through, "" if it does not; secrets and replies that are no JSON pass through too.

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
    """Returns whether *value* can stand in a header field of a batch operation, which no HTTP parser checks."""
    return value.isascii() and value.isprintable()


def priority(field: str, of_rule: int | None) -> int:
    """Returns the urgency in the caller's Priority field (RFC 9218 section 4.1), else the rule's, else the default."""
    named = _URGENCY.findall(field)
    if named:
        return int(named[-1])  # of several members of one name the last counts (RFC 9651 section 4.2.2)
    return USUAL_PRIORITY if of_rule is None else of_rule


def _request(
    head: Head, target: Target, host: str, caller: Credential | None, channel: Channel, *, urgency: int
) -> Request:
    return Request(
        host=host,
        version=target.version,
        path=target.path,
        query=target.query,
        language=head.headers.get("accept-language", "").strip(),
        credential=caller,
        channel=channel,
        directives=cache_directives(head.headers),
        priority=urgency,
    )


def _means_the_same(target: Target, caller: Credential) -> bool:
    """Returns whether this read means the same in a batch as alone.

    In a batch `{result=name:…}` is a reference; `suppress_http_code` is about a whole call.
    """
    from_caller = f"{target.path}?{target.query}"
    names_a_slot = _REFERENCE.search(from_caller) or "{" in caller.token + caller.proof + caller.time
    return not names_a_slot and not target.get("suppress_http_code")


def _body_writes(body: bytes | None) -> bool:
    """Returns whether the body of a GET may make it a write; an unreadable body counts as one."""
    return body is None or b"method" in body or not _PLAIN_FORM.fullmatch(body)
