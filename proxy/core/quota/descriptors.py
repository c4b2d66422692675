"""Rate-limit descriptors: the limits that a read falls under, and the limit that a reply or an error is about.

Each token has buckets of its own: the sidecar cannot tell which tokens belong to one app, and no caller receives what
Graph said to another. With `quota.group = "shared"` all tokens share the buckets of one app.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.core.graph.errors import GraphError
from proxy.core.graph.throttles import LimitScope, throttle_meaning
from proxy.core.memory.memo import MEMO_BYTES, Memo, Recent, short
from proxy.core.model import Redacted, Request
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.usage_headers import ADS, UsageLevel
from proxy.core.routing.nodes import nodes

_USE_CASE_OF_EDGE = {"insights": "ads_insights", "customaudiences": "custom_audience"}
"""The business use case of each edge that has a limit of its own within an ad account."""

_MOST_OBJECTS = 10_000

_MOST_NODES = 50
"""The most objects of one read whose limits are looked up; Graph takes no more ids in one call."""


class QuotaSubject(Redacted, frozen=True, gc=False):
    """The parts of a read that decide under which limits it falls: the token's fingerprint, the path and the query."""

    hidden = ("query",)

    fingerprint: bytes
    path: str
    query: str


class Descriptors:
    """Finds the limits of reads; learns from usage headers which account or business an object belongs to."""

    def __init__(self, *, shared: bool = False) -> None:
        """Start with no known objects; *shared* means that all tokens belong to one app."""
        self.shared = shared
        self._memo = Memo(self._find_bucket_names)
        self._parents = Recent[tuple[bytes, str], frozenset[tuple[str, str, str]]](_MOST_OBJECTS, 4 * MEMO_BYTES)

    def bucket_names(self, subject: QuotaSubject) -> list[BucketName]:
        """Returns every limit that a read of *subject* is known to fall under."""
        return self._memo(subject)

    def levels_by_bucket(
        self, subject: QuotaSubject, levels: Iterable[UsageLevel]
    ) -> list[tuple[BucketName, UsageLevel]]:
        """Returns the *levels* that Graph reported to *subject*, each with the name of its bucket."""
        node_ids = _node_ids(subject)
        return [(name, level) for level in levels if (name := self._bucket_name(subject, node_ids, level)) is not None]

    def stopped_by(self, subject: QuotaSubject, error: GraphError) -> tuple[BucketName, ...]:
        """Returns the limit that *error* is about: the narrowest one that the code and the read allow.

        `graph/throttles.LimitScope` says which that is for each scope.
        """
        owner, node_ids = self._owner(subject), _node_ids(subject)
        of_token = BucketName("app", subject.fingerprint, "", "")
        meaning = throttle_meaning(error.code, error.error_subcode)
        match meaning.scope:
            case LimitScope.APP:
                return (BucketName("app", owner, "", meaning.use),)
            case LimitScope.TOKEN:
                return (of_token,)
            case LimitScope.PAGE:
                is_one = len(node_ids) == 1
                return (BucketName("page", owner, _page_of_post(node_ids[0]), ""),) if is_one else (of_token,)
            case LimitScope.EDGE:
                return (_edge_bucket(owner, subject.path, node_ids),)
        accounts = self._accounts(owner, node_ids)
        if len(accounts) == 1 and len(node_ids) == 1:
            return (BucketName("account", owner, accounts[0], _use_case(subject.path) or "ads_management"),)
        if (businesses := self._businesses(owner, node_ids)) and len(node_ids) == 1:
            meant = [name for name in businesses if meaning.use and name.type == meaning.use]
            return tuple(meant or businesses[:1])
        return (BucketName("business", owner, short(",".join(node_ids)), ""),) if node_ids else (of_token,)

    def learn(self, subject: QuotaSubject, levels: Iterable[UsageLevel]) -> None:
        """Learn that an object belongs to the account or business in its usage headers, if there is just one."""
        owner, node_ids = self._owner(subject), _node_ids(subject)
        parents: dict[str, set[tuple[str, str, str]]] = {}
        for level in levels:
            if level.id:
                parent = (level.kind, level.id, "" if level.type in ADS else level.type)
                parents.setdefault(level.id, set()).add(parent)
        for ident, by_bucket in parents.items():  # a page or a business is an object itself
            if any(kind == "business" for kind, _, _ in by_bucket):
                self._set_parents(owner, ident, frozenset(by_bucket))
        if len(parents) == 1 and len(node_ids) == 1:
            ((ident, by_bucket),) = parents.items()
            if node_ids[0] != f"act_{ident}":
                self._set_parents(owner, node_ids[0], frozenset(by_bucket))

    def _owner(self, subject: QuotaSubject) -> bytes:
        return b"" if self.shared else subject.fingerprint

    def _bucket_name(self, subject: QuotaSubject, node_ids: Sequence[str], level: UsageLevel) -> BucketName | None:
        """Returns the bucket of *level*; None where the header names no object and the read names none or several."""
        owner = self._owner(subject)
        if level.kind == "app" or level.id:
            return BucketName(level.kind, owner, level.id, level.type)
        if level.kind == "page":
            return BucketName("page", owner, _page_of_post(node_ids[0]), "") if node_ids else None
        accounts = self._accounts(owner, node_ids)
        return BucketName("account", owner, accounts[0], level.type) if len(accounts) == 1 else None

    def _find_bucket_names(self, subject: QuotaSubject) -> list[BucketName]:
        owner, use = self._owner(subject), _use_case(subject.path)
        found = [
            BucketName("app", owner, "", ""),
            BucketName("app", owner, "", use),
            BucketName("app", subject.fingerprint, "", ""),
        ]
        node_ids = _node_ids(subject)
        found.append(_edge_bucket(owner, subject.path, node_ids))
        for node in node_ids:
            found += self._bucket_names_of(owner, node, use)
        if len(node_ids) > 1:
            found.append(BucketName("business", owner, short(",".join(node_ids)), ""))
        return list(dict.fromkeys(found))

    def _bucket_names_of(self, owner: bytes, node: str, use: str) -> Iterable[BucketName]:
        for account in self._accounts(owner, (node,)):
            yield BucketName("account", owner, account, "")
            yield BucketName("account", owner, account, use or "ads_management")
        yield from self._businesses(owner, (node,))
        yield BucketName("page", owner, _page_of_post(node), "")
        yield BucketName("business", owner, node, "")

    def _accounts(self, owner: bytes, node_ids: Iterable[str]) -> list[str]:
        """Returns the ad accounts of the objects *node_ids*: by their own ids, or as Graph has reported."""
        found: dict[str, None] = {}
        for node in node_ids:
            if node.startswith("act_"):
                found[node.removeprefix("act_")] = None
            found |= {ident: None for kind, ident, _ in (self._parents.get((owner, node)) or ()) if kind == "account"}
        return list(found)

    def _businesses(self, owner: bytes, node_ids: Iterable[str]) -> list[BucketName]:
        """Returns the buckets, other than ad accounts, that Graph has reported with the objects *node_ids*."""
        parents = [parent for node in node_ids for parent in sorted(self._parents.get((owner, node)) or ())]
        return [BucketName(kind, owner, ident, use) for kind, ident, use in parents if kind != "account"]

    def _set_parents(self, owner: bytes, node: str, parents: frozenset[tuple[str, str, str]]) -> None:
        if self._parents.get((owner, node)) != parents:
            self._memo.clear()
        self._parents.put((owner, node), parents)


def _node_ids(subject: QuotaSubject) -> tuple[str, ...]:
    """Returns the objects that *subject* reads, at most as many as are looked up; long names shortened."""
    return tuple(map(short, nodes(subject.path, subject.query)[:_MOST_NODES]))


def tightest(by_bucket: Iterable[tuple[BucketName, UsageLevel]]) -> Iterable[tuple[BucketName, UsageLevel]]:
    """Returns the highest level of each bucket."""
    found: dict[BucketName, UsageLevel] = {}
    for name, level in by_bucket:
        if name not in found or found[name].percent < level.percent:
            found[name] = level
    return found.items()


def one_node(requests: Iterable[Request]) -> str:
    """Returns the path of the object that all of *requests* read; "/" if they read several."""
    found = None
    for request in requests:
        node = request.path.split("/", 2)[1]
        if found not in {None, node}:
            return "/"
        found = node
    return f"/{found or ''}"


def _edge_bucket(owner: bytes, path: str, node_ids: Sequence[str]) -> BucketName:
    """Returns the bucket of one edge of one node; for a read of several objects, of this set of objects."""
    return BucketName("edge", owner, short(path.strip("/") or ",".join(node_ids)), "")


def _use_case(path: str) -> str:
    return _USE_CASE_OF_EDGE.get(path.rpartition("/")[2], "")


def _page_of_post(node: str) -> str:
    """Returns the page id of a post's id, which is `page_post`."""
    return node.partition("_")[0] if node[:1].isdigit() else node
