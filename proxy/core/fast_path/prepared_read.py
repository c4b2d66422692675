"""Everything about a plain read that depends on its head alone, worked out once for all reads with the same head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.cache import cacheability
from proxy.core.cache.key import ANY_AGES, FlightKey, Keys, ObjectKeys, flight_key
from proxy.core.fast_path.answer_template import FieldSet
from proxy.core.fast_path.prepared_reply import FreshHit
from proxy.core.http.errors import BadRequest
from proxy.core.memory.memo import memo
from proxy.core.model import Entry, Headers, Mode, Request
from proxy.core.observe.access_log import LineTemplate, PreparedLine
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import first_node
from proxy.core.reply.link_origin import LinkOrigin, link_origin
from proxy.core.routing.classify import Read, classify
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import Rule, RuleBook, fields_asked


class CommonPart(msgspec.Struct, eq=False):
    """What reads have in common that differ in their objects alone, as far as it was worked out."""

    fields: frozenset[str]  # that they ask for
    is_poll: bool  # whether they ask for the progress of a job
    keys: ObjectKeys | None = None  # derives theirs
    edge: str = ""  # of the object that they read, with the slash before it
    around_node: tuple[bytes, bytes] | None = None  # an operation without validator, before and behind the object
    counts: Any = None  # what counts their replies
    queue: Any = None  # in which one of them waited for a batch last
    around_validator: tuple[bytes, bytes, bytes] | None = None  # one with a validator, around the object and that
    lines: Mapping[str, tuple[Headers, LineTemplate | None, int]] = {}  # of the log, and the era of their routes

    def __repr__(self) -> str:
        """Say what kind of thing this is: operations hold tokens."""
        return "CommonPart()"


LineOfRead = tuple[str, Headers, PreparedLine | None, tuple[int, int]]
"""A line of the log; the ETag and the usage of its reply, the size of the body, and the era of the routes' labels."""

TextOfSlot = tuple[bytes, int, bytes, str, bytes]
"""The last body in a client's batch, the size that its caller got, its text there; its ETag, and the text of that."""


class ReadyRead(msgspec.Struct, eq=False, gc=False):
    """How a read is asked and answered in clients' batches as long as Graph confirms what is held of it.

    Its repr shows none of it, for it holds a token.
    """

    entry: Entry  # what is held: the one that Graph confirmed last
    request: Request  # with the validator
    part: bytes  # the same as an operation of a batch
    etag: bytes  # as JSON, like the text
    text: bytes  # of the body, as it stands in a slot
    size: int  # of the body that the caller gets
    held: FieldSet | None  # the fields of the entry, as others have them, too
    line: PreparedLine | None = None  # of the log
    usage: Headers = ()  # that of the line
    era: int = -1  # of the routes' labels in the line

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the read."""
        return "ReadyRead()"


class PreparedRead(msgspec.Struct, eq=False, gc=False):
    """A plain read, and all that is derived from it; its repr shows none of it, for it holds a token.

    Nothing that it keeps leads back to it, so Python need not search it for cycles: there may be many thousands.
    """

    request: Request
    fingerprint: bytes
    key: bytes
    flight: FlightKey
    proof: bytes
    link_origin: LinkOrigin
    app: str  # the first digits of the fingerprint, as logs and the ledger have them
    node: str  # the object whose usage its replies tell of
    is_ordinary: bool  # whether the heads of its replies can be made from templates
    asks_always: bool  # whether Graph is asked whatever is held, as long as no limit is near
    is_low_priority: bool  # whether it may wait while calls are scarce
    rule: Rule
    common: CommonPart  # what it has in common with reads that differ in their objects alone
    asked: Request | None = None  # with the validator that it was asked with last
    part: bytes = b""  # the same as an operation of a batch
    line: LineOfRead | None = None  # of a reply in which Graph confirmed what is held
    shared_line: LineOfRead | None = None  # of the same to a caller who joined
    asked_etag: str | None = None  # that of its validator
    held: FieldSet | None = None  # the fields of what is held of it, as others have them, too
    held_block: bytes = b""  # the same as the entry has them
    hit: FreshHit | None = None  # what answered it last from memory
    text: TextOfSlot = (b"", 0, b"", "", b"")
    ready: ReadyRead | None = None
    is_kept: bool = False  # whether it is in the table of heads, for the next time
    keeps_line: bool = False  # whether there is room for the lines of the log

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the read."""
        return "PreparedRead()"

    @property
    def read(self) -> Read:
        """Returns the read as the layers take it: a plain one has no callback, and no order of its own."""
        return Read(self.request, "")

    @property
    def subject(self) -> QuotaSubject:
        """Returns the parts of the read that decide under which limits it falls."""
        return QuotaSubject(self.fingerprint, self.request.path, self.request.query)

    def known_line(self, asked: Mode, mode: Mode) -> LineOfRead | None:
        """Returns the line that is kept for a reply of this *mode*, if what was *asked* for it was confirmed."""
        if asked is not Mode.REVALIDATED:
            return None
        return self.shared_line if mode is Mode.COALESCED else self.line


class Preparation(msgspec.Struct, frozen=True):
    """What reads are prepared with; none of it but *rewrite_links* and the rules changes while the sidecar runs."""

    hosts: GraphHosts
    rules: RuleBook
    keys: Keys

    def prepare(self, head: Head, *, rewrite_links: bool) -> PreparedRead | None:
        """The plain read that *head* asks for in clear; None for anything that has to go the usual way."""
        try:
            read = classify(head, b"", self.hosts, self.rules)
        except BadRequest:
            return None
        if not isinstance(read, Read):
            return None
        return self.prepare_read(read, link_origin(head, "http", self.hosts, rewrites=rewrite_links))

    def prepare_read(self, read: Read, origin: LinkOrigin) -> PreparedRead | None:
        """Returns *read*, links in whose replies lead to *origin*; None if it has to go the usual way."""
        rule = self.rules.of(read.request)
        if not _is_plain(read, rule):
            return None
        request, keys = read.request, self.keys
        is_ordinary = rule.cache and not request.directives.if_none_match
        fingerprint = keys.fingerprint(request.credential)
        key, proof = keys.derive(fingerprint, request), keys.proof(request.credential)
        subject = QuotaSubject(fingerprint, request.path, request.query)
        return PreparedRead(
            request,
            fingerprint,
            key,
            flight_key(key, proof, ANY_AGES),
            proof,
            origin,
            _app(fingerprint),
            first_node(subject),
            is_ordinary,
            is_ordinary and max(rule.fresh_s, rule.stretch_s, rule.stale_while_revalidate_s) <= 0,
            request.is_low_priority,
            rule,
            CommonPart(fields_asked(request.query), cacheability.is_poll(request)),
        )

    def prepare_like(self, other: PreparedRead, node: str) -> PreparedRead | None:
        """Returns a read that differs from *other* only in its object, the id *node*; None if their rules differ."""
        common, fingerprint, asked = other.common, other.fingerprint, other.request
        if common.keys is None:
            common.keys = self.keys.of_objects(fingerprint, asked)
            common.edge = "/" * ("/" in asked.path[1:]) + asked.path[1:].partition("/")[2]
        path = f"/{node}{common.edge}"
        rule = self.rules.match(path, common.fields, asked.version)
        if rule is not other.rule and rule != other.rule:
            return None
        request, key = replace(asked, path=path), common.keys.derive(node)
        return PreparedRead(
            request,
            fingerprint,
            key,
            flight_key(key, other.proof, ANY_AGES) if other.proof else key,
            other.proof,
            other.link_origin,
            other.app,
            node,
            other.is_ordinary,
            other.asks_always,
            other.is_low_priority,
            rule,
            common,
        )


@memo()
def _app(fingerprint: bytes) -> str:
    """Returns one string for all reads of a credential, for it is kept with each."""
    return fingerprint.hex()[:12]


def _is_plain(read: Read, rule: Rule) -> bool:
    """Whether *read* is one call, is alone in what it reads, takes an answer of any age and its proof is for good."""
    request = read.request
    wishes, who = request.directives, request.credential
    takes_any = not wishes.forbids_sharing and all(age is None for age in wishes.ages)
    is_vouched_for_good = who is None or not who.time
    return (
        takes_any and is_vouched_for_good and not (read.callback or read.order or rule.merge or "ids" in request.query)
    )
