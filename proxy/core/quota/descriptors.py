"""Which pools a read draws on, as far as Graph has told, and which of them its answer speaks of.

A pool belongs to one token, because nobody can tell which tokens are of one app, and because no caller receives what
Graph said to another; where the operator says that all are of one app (`quota.group = "shared"`), they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.core.graph.errors import GraphError
from proxy.core.graph.throttles import Limit, meaning
from proxy.core.memory.memo import MEMO_BYTES, Memo, Recent, short
from proxy.core.model import Redacted, Request
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.usage_headers import ADS, UsageLevel
from proxy.core.routing.target import nodes

_USES = {"insights": "ads_insights", "customaudiences": "custom_audience"}
"""Edges that have a limit of their own within an ad account."""

_HOMES = 10_000

_MOST_NODES = 50
"""Objects of one read whose limits are looked at; Graph takes no more ids in one call."""


class QuotaSubject(Redacted, frozen=True, gc=False):
    """Who asks, by fingerprint, and for what."""

    hidden = ("query",)

    fingerprint: bytes
    path: str
    query: str


class Descriptors:
    """What is known of objects and the accounts or businesses that they belong to."""

    def __init__(self, *, shared: bool = False) -> None:
        """*shared*: all tokens are of one app."""
        self.shared = shared
        self._found = Memo(self._find_names)
        self._homes = Recent[tuple[bytes, str], frozenset[tuple[str, str, str]]](_HOMES, 4 * MEMO_BYTES)

    def names(self, asker: QuotaSubject) -> list[BucketName]:
        """Every pool that a read of *asker*'s draws on, as far as that is known."""
        return self._found(asker)

    def named(self, asker: QuotaSubject, told: Iterable[UsageLevel]) -> list[tuple[BucketName, UsageLevel]]:
        """The pools that the gauges *told* to *asker* speak of, each with its gauge."""
        asked = _asked(asker)
        return [(name, gauge) for gauge in told if (name := self._name(asker, asked, gauge)) is not None]

    def stopped_by(self, asker: QuotaSubject, error: GraphError) -> tuple[BucketName, ...]:
        """The pool that the *error* told to *asker* speaks of: the narrowest that the read names."""
        owner, asked = self._owner(asker), _asked(asker)
        token, told = BucketName("app", asker.fingerprint, "", ""), meaning(error.code, error.error_subcode)
        match told.limit:
            case Limit.APP:
                return (BucketName("app", owner, "", told.use),)
            case Limit.TOKEN:
                return (token,)
            case Limit.PAGE:
                return (BucketName("page", owner, _page(asked[0]), ""),) if len(asked) == 1 else (token,)
            case Limit.EDGE:
                return (_edge(owner, asker.path, asked),)
        accounts = self._accounts(owner, asked)
        if len(accounts) == 1 and len(asked) == 1:
            return (BucketName("account", owner, accounts[0], _use(asker.path) or "ads_management"),)
        if (businesses := self._businesses(owner, asked)) and len(asked) == 1:
            meant = [name for name in businesses if told.use and name.type == told.use]
            return tuple(meant or businesses[:1])
        return (BucketName("business", owner, short(",".join(asked)), ""),) if asked else (token,)

    def learn(self, asker: QuotaSubject, told: Iterable[UsageLevel]) -> None:
        """An object belongs to the account or business that Graph names with it, if that is one alone."""
        owner, asked = self._owner(asker), _asked(asker)
        homes: dict[str, set[tuple[str, str, str]]] = {}
        for gauge in told:
            if gauge.id:
                home = (gauge.kind, gauge.id, "" if gauge.type in ADS else gauge.type)
                homes.setdefault(gauge.id, set()).add(home)
        for ident, named in homes.items():  # a page or a business is an object itself
            if any(kind == "business" for kind, _, _ in named):
                self._lives(owner, ident, frozenset(named))
        if len(homes) == 1 and len(asked) == 1:
            ((ident, named),) = homes.items()
            if asked[0] != f"act_{ident}":
                self._lives(owner, asked[0], frozenset(named))

    def _owner(self, asker: QuotaSubject) -> bytes:
        return b"" if self.shared else asker.fingerprint

    def _name(self, asker: QuotaSubject, asked: Sequence[str], gauge: UsageLevel) -> BucketName | None:
        """The pool that *gauge* speaks of; None where it leaves that open and the read names nothing."""
        owner = self._owner(asker)
        if gauge.kind == "app" or gauge.id:
            return BucketName(gauge.kind, owner, gauge.id, gauge.type)
        if gauge.kind == "page":
            return BucketName("page", owner, _page(asked[0]), "") if asked else None
        accounts = self._accounts(owner, asked)
        return BucketName("account", owner, accounts[0], gauge.type) if len(accounts) == 1 else None

    def _find_names(self, asker: QuotaSubject) -> list[BucketName]:
        owner, use = self._owner(asker), _use(asker.path)
        found = [
            BucketName("app", owner, "", ""),
            BucketName("app", owner, "", use),
            BucketName("app", asker.fingerprint, "", ""),
        ]
        asked = _asked(asker)
        found.append(_edge(owner, asker.path, asked))
        for node in asked:
            found += self._names_of(owner, node, use)
        if len(asked) > 1:
            found.append(BucketName("business", owner, short(",".join(asked)), ""))
        return list(dict.fromkeys(found))

    def _names_of(self, owner: bytes, node: str, use: str) -> Iterable[BucketName]:
        for account in self._accounts(owner, (node,)):
            yield BucketName("account", owner, account, "")
            yield BucketName("account", owner, account, use or "ads_management")
        yield from self._businesses(owner, (node,))
        yield BucketName("page", owner, _page(node), "")
        yield BucketName("business", owner, node, "")

    def _accounts(self, owner: bytes, asked: Iterable[str]) -> list[str]:
        """The ad accounts of the objects that are *asked* for: by their own names, or as Graph has told."""
        found: dict[str, None] = {}
        for node in asked:
            if node.startswith("act_"):
                found[node.removeprefix("act_")] = None
            found |= {ident: None for kind, ident, _ in (self._homes.get((owner, node)) or ()) if kind == "account"}
        return list(found)

    def _businesses(self, owner: bytes, asked: Iterable[str]) -> list[BucketName]:
        """The pools, other than ad accounts, that Graph has told of with the objects that are *asked* for."""
        homes = [home for node in asked for home in sorted(self._homes.get((owner, node)) or ())]
        return [BucketName(kind, owner, ident, use) for kind, ident, use in homes if kind != "account"]

    def _lives(self, owner: bytes, node: str, homes: frozenset[tuple[str, str, str]]) -> None:
        if self._homes.get((owner, node)) != homes:
            self._found.clear()
        self._homes.put((owner, node), homes)


def _asked(asker: QuotaSubject) -> tuple[str, ...]:
    """The objects that *asker* asks for, as limits know them."""
    return tuple(map(short, nodes(asker.path, asker.query)[:_MOST_NODES]))


def tightest(named: Iterable[tuple[BucketName, UsageLevel]]) -> Iterable[tuple[BucketName, UsageLevel]]:
    """Of several gauges of one pool the one that counts."""
    found: dict[BucketName, UsageLevel] = {}
    for name, gauge in named:
        if name not in found or found[name].percent < gauge.percent:
            found[name] = gauge
    return found.items()


def one_node(requests: Iterable[Request]) -> str:
    """The path of the object that all of *requests* are about; the root's, if there is no such object."""
    found = {request.path.split("/", 2)[1] for request in requests}
    return f"/{found.pop()}" if len(found) == 1 else "/"


def _edge(owner: bytes, path: str, asked: Sequence[str]) -> BucketName:
    """The limit of one edge of one node alone; of a read of several objects, of just these together."""
    return BucketName("edge", owner, short(path.strip("/") or ",".join(asked)), "")


def _use(path: str) -> str:
    return _USES.get(path.rpartition("/")[2], "")


def _page(node: str) -> str:
    """The page of a post: their ids are `page_post`."""
    return node.partition("_")[0] if node[:1].isdigit() else node
