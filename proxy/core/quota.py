"""Which pools a read belongs to, what Graph's answers say of them, and whether a read is asked now, later or not.

A pool belongs to one token, because nobody can tell which tokens are of one app, and because no caller receives what
Graph said to another; where the operator says that all are of one app (`quota.group = "shared"`), they share.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from proxy.core import headers
from proxy.core.errors import GraphError, read_error
from proxy.core.messages import LOW_PRIORITY, Headers, Mode, Reply, Request
from proxy.core.normal import nodes
from proxy.core.pools import Name, Pools, Stages
from proxy.core.usage import ADS, Gauge, Usage, gauges, usage_in

STOPPED_BY = {
    4: "app",
    341: "app",
    17: "token",
    32: "page",
    613: "account",
    **dict.fromkeys(range(80000, 80015), "account"),
}
"""Whose limit a code speaks of (…/docs/graph-api/overview/rate-limiting); the HTTP status differs from call to call."""

FOLLOWING = 2
"""Reads that may follow when one that had waited is answered: a line that has room again goes in slow start."""

_OF_INSIGHTS = frozenset({1504022, 1504039})
"""Subcodes of 4: the app's limit for insights alone (…/docs/marketing-api/insights/best-practices)."""

_USES = {"insights": "ads_insights", "customaudiences": "custom_audience"}
"""Edges that have a limit of their own within an ad account."""

_TYPES = {80001: "pages", 80002: "instagram", 80005: "leadgen", 80006: "messenger"}
"""The business use cases that codes name, where an object has several."""

_SEEN_IN = 512  # bytes of a good reply in which an error of Graph's would begin
_NEVER_AGAIN = headers.USAGE | headers.TRACE | {"retry-after", "date"}
_HOMES, _SAID, _NAMED = 10_000, 1024, 1024
_MOMENT_S = 1.0


class Asker(NamedTuple):
    """Who asks, by fingerprint, and for what."""

    fingerprint: bytes
    path: str
    query: str


@dataclass(slots=True)
class _Said:
    """What was last said, when, and how many calls it was since said with again."""

    at: float
    usage: Headers
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: *pool* has room for one more read in so many *seconds*."""

    seconds: float
    pool: Name


@dataclass(frozen=True, slots=True)
class Halt:
    """Do not ask: *reply* is what Graph said of this pool."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Go:
    """Ask, for the sake of the stopped pools in *probes* too."""

    probes: tuple[Name, ...] = ()


GO = Go()
Verdict = Go | Wait | Halt


@dataclass(frozen=True, slots=True)
class News:
    """What an answer changed: the pools that it stopped, and whether any came to a calmer stage."""

    stopped: tuple[Name, ...] = ()
    eased: bool = False


NO_NEWS, EASED = News(), News(eased=True)


class Quota:
    """Everything known of limits; `heard` takes Graph's answers, `admit` decides before Graph is asked."""

    def __init__(self, stages: Stages, *, shared: bool = False) -> None:
        """Decide by *stages*; *shared*: all tokens are of one app."""
        self._shared = shared
        self._usage = Usage()
        self._named: dict[Asker, list[Name]] = {}  # what was found of reads that came lately
        self._said: OrderedDict[tuple[bytes, str], _Said] = OrderedDict()
        self._homes: OrderedDict[tuple[bytes, str], frozenset[tuple[str, str, str]]] = OrderedDict()
        self.pools = Pools(stages)

    @property
    def stages(self) -> Stages:
        """What is decided by."""
        return self.pools.stages

    def take(self, stages: Stages) -> None:
        """Decide by *stages* from now on."""
        self.pools.stages = stages

    # --- before Graph is asked ---

    def newest(self, asker: Asker, now: float) -> Headers:
        """The usage headers for a reply that Graph did not give now; none rather than old ones."""
        return self._usage.newest(asker.fingerprint, _first_node(asker), now)

    def pressure(self, asker: Asker, now: float) -> float:
        """How scarce the calls are that *asker* would need: 0 calm, 1 not to be had."""
        if self.pools.are_calm or not self.stages.enabled:
            return 0.0
        return self.pools.pressure(self._names(asker), now)

    def admit(self, asker: Asker, priority: int, now: float, *, has_waited: bool = False) -> Verdict:
        """Whether a read that Graph would have to answer is asked now; a read that *has_waited* long enough goes."""
        if self.pools.are_calm or not self.stages.enabled:
            return GO
        names = self._names(asker)
        halts = [
            stop for pool in self.pools.known(names) if (stop := pool.stop) and stop.error and not stop.is_due(now)
        ]
        if halts:
            last = max(halts, key=lambda stop: stop.until)
            return Halt(_said_again(last.error or Reply(400, (), b""), asker, last.until - now))
        due = [name for name in names for pool in self.pools.known((name,)) if pool.stop and pool.stop.is_due(now)]
        for pool in self.pools.known(due):
            if pool.stop is not None:
                pool.stop.is_probed = True
        if due:
            return Go(tuple(due))
        if priority < LOW_PRIORITY:
            self.pools.urgent(names, now)
            return GO
        return GO if has_waited else self._turn(names, now)

    def _turn(self, names: Sequence[Name], now: float) -> Verdict:
        """A patient read goes as soon as each of the pools that are spared has room for one; the longest wait holds."""
        spared = self.pools.spared(names, now)
        seconds, name = max(((pool.wait_s(self.stages, now), name) for name, pool in spared), default=(0.0, None))
        if name is not None and seconds > 0:
            return Wait(seconds, name)
        for _name, pool in spared:
            pool.went = now
        return GO

    # --- when Graph has answered ---

    def heard(self, asker: Asker, reply: Reply, now: float, probes: tuple[Name, ...] = ()) -> News:
        """Take what Graph's *reply* says of limits; *probes* are the stopped pools for whose sake it was asked."""
        error, usage = throttle(reply), usage_in(reply.headers)
        if error is None and not probes and self._is_old_news(asker, usage, now):
            return NO_NEWS
        told, eased = self._note(asker, usage, now)
        if (error is None and not probes) or not self.stages.enabled:
            return EASED if eased else NO_NEWS
        names = self._stopped(asker, error) if error is not None else ()
        regain = max((gauge.lasts_s for name, gauge in told if _is_of(name, gauge, names, self.stages)), default=0.0)
        kept = _kept(reply, asker) if error is not None else None
        for name in probes:
            self._conclude(name, reply, kept if name in names else None, regain, now, is_throttled=error is not None)
        stopped = tuple(
            name for name in names if name not in probes and kept and self.pools.stop(name, kept, regain, now)
        )
        return News(stopped, eased or bool(probes))

    def note(self, asker: Asker, fields: Headers, now: float) -> None:
        """Take what the usage headers among *fields* say, of a reply whose body nobody here looks at."""
        self._note(asker, usage_in(fields), now)

    def unheard(self, probes: Iterable[Name], now: float, *, again_s: float) -> None:
        """A read that was to probe these pools got no answer of Graph's."""
        for name in probes:
            self.pools.unprobed(name, now, again_s=again_s)

    def _conclude(
        self, name: Name, reply: Reply, error: Reply | None, regain_s: float, now: float, *, is_throttled: bool
    ) -> None:
        """Trouble of another sort tells nothing of this pool."""
        if error is None and (is_throttled or reply.status >= 500):
            self.pools.unprobed(name, now, again_s=self.stages.probe_s)
        else:
            self.pools.probed(name, error, regain_s, now)

    def _is_old_news(self, asker: Asker, usage: Headers, now: float) -> bool:
        """Whether the same was said a moment ago: percents are whole, and most replies repeat them."""
        if not usage:
            return True
        said = self._said.get(_subject(asker, usage))
        if said is not None and said.usage == usage and 0 <= now - said.at < _MOMENT_S:
            said.calls += 1
            return True
        return False

    def _note(self, asker: Asker, usage: Headers, now: float) -> tuple[list[tuple[Name, Gauge]], bool]:
        if not usage:
            return [], False
        asked = nodes(asker.path, asker.query)
        self._usage.note(asker.fingerprint, asked[0] if asked else "", usage, now)
        told = gauges(usage)
        self._learn(asker, asked, told)
        named = [(name, gauge) for gauge in told if (name := self._name(asker, asked, gauge)) is not None]
        calls, eased = max(1, len(asked)), False
        if said := self._said.pop(subject := _subject(asker, usage), None):
            calls += said.calls
        self._said[subject] = _Said(now, usage)
        if len(self._said) > _SAID:
            self._said.popitem(last=False)
        for name, gauge in _tightest(named) if len(named) > 1 else named:
            eased |= self.pools.tell(name, gauge, calls, now)
        return named, eased

    # --- which pools ---

    def _owner(self, asker: Asker) -> bytes:
        return b"" if self._shared else asker.fingerprint

    def _name(self, asker: Asker, asked: Sequence[str], gauge: Gauge) -> Name | None:
        """The pool that *gauge* speaks of; None where it leaves that open and the read names nothing."""
        owner = self._owner(asker)
        if gauge.kind == "app" or gauge.id:
            return Name(gauge.kind, owner, gauge.id, gauge.type)
        if gauge.kind == "page":
            return Name("page", owner, _page(asked[0]), "") if asked else None
        accounts = self._accounts(owner, asked)
        return Name("account", owner, accounts[0], gauge.type) if len(accounts) == 1 else None

    def _names(self, asker: Asker) -> list[Name]:
        """Every pool that a read of *asker*'s draws on, as far as that is known."""
        if (names := self._named.get(asker)) is None:
            if len(self._named) >= _NAMED:
                self._named.clear()
            names = self._named[asker] = self._find_names(asker)
        return names

    def _find_names(self, asker: Asker) -> list[Name]:
        owner, use = self._owner(asker), _use(asker.path)
        found = [Name("app", owner, "", ""), Name("app", owner, "", use), Name("app", asker.fingerprint, "", "")]
        asked = nodes(asker.path, asker.query)
        for node in asked:
            found += self._names_of(owner, node, use)
        if len(asked) > 1:
            found.append(Name("business", owner, ",".join(asked), ""))
        return list(dict.fromkeys(found))

    def _names_of(self, owner: bytes, node: str, use: str) -> Iterable[Name]:
        for account in self._accounts(owner, (node,)):
            yield Name("account", owner, account, "")
            yield Name("account", owner, account, use or "ads_management")
        yield from self._businesses(owner, (node,))
        yield Name("page", owner, _page(node), "")
        yield Name("business", owner, node, "")

    def _accounts(self, owner: bytes, asked: Iterable[str]) -> list[str]:
        """The ad accounts of the objects that are *asked* for: by their own names, or as Graph has told."""
        found: dict[str, None] = {}
        for node in asked:
            if node.startswith("act_"):
                found[node.removeprefix("act_")] = None
            found |= {ident: None for kind, ident, _ in self._homes.get((owner, node), ()) if kind == "account"}
        return list(found)

    def _businesses(self, owner: bytes, asked: Iterable[str]) -> list[Name]:
        """The pools, other than ad accounts, that Graph has told of with the objects that are *asked* for."""
        homes = [home for node in asked for home in sorted(self._homes.get((owner, node), ()))]
        return [Name(kind, owner, ident, use) for kind, ident, use in homes if kind != "account"]

    def names(self, asker: Asker) -> list[Name]:
        """Every pool that a read of *asker*'s draws on, as far as that is known."""
        return self._names(asker)

    def named(self, asker: Asker, told: Iterable[Gauge]) -> Iterable[tuple[Name, Gauge]]:
        """The pools that the gauges *told* to *asker* speak of, the tightest gauge of each."""
        asked = nodes(asker.path, asker.query)
        found = [(name, gauge) for gauge in told if (name := self._name(asker, asked, gauge)) is not None]
        return _tightest(found)

    def stopped_by(self, asker: Asker, error: GraphError) -> tuple[Name, ...]:
        """The pool that the *error* told to *asker* speaks of: the narrowest that the read names."""
        return self._stopped(asker, error)

    def _learn(self, asker: Asker, asked: Sequence[str], told: Iterable[Gauge]) -> None:
        """An object belongs to the account or business that Graph names with it, if that is one alone."""
        owner = self._owner(asker)
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

    def _lives(self, owner: bytes, node: str, homes: frozenset[tuple[str, str, str]]) -> None:
        if self._homes.get((owner, node)) != homes:
            self._named.clear()
        self._homes[owner, node] = homes
        self._homes.move_to_end((owner, node))
        if len(self._homes) > _HOMES:
            self._homes.popitem(last=False)

    def _stopped(self, asker: Asker, error: GraphError) -> tuple[Name, ...]:
        """The pool that *error* speaks of: the narrowest that the read names."""
        owner, asked = self._owner(asker), nodes(asker.path, asker.query)
        token = Name("app", asker.fingerprint, "", "")
        match STOPPED_BY[error.code]:
            case "app":
                return (Name("app", owner, "", "ads_insights" if error.error_subcode in _OF_INSIGHTS else ""),)
            case "token":
                return (token,)
            case "page":
                return (Name("page", owner, _page(asked[0]), ""),) if len(asked) == 1 else (token,)
        accounts = self._accounts(owner, asked)
        if len(accounts) == 1 and len(asked) == 1:
            return (Name("account", owner, accounts[0], _use(asker.path) or "ads_management"),)
        if (businesses := self._businesses(owner, asked)) and len(asked) == 1:
            meant = [name for name in businesses if name.type == _TYPES.get(error.code)]
            return tuple(meant or businesses[:1])
        return (Name("business", owner, ",".join(asked), ""),) if asked else (token,)


def _tightest(named: Iterable[tuple[Name, Gauge]]) -> Iterable[tuple[Name, Gauge]]:
    """Of several gauges of one pool the one that counts."""
    found: dict[Name, Gauge] = {}
    for name, gauge in named:
        if name not in found or found[name].percent < gauge.percent:
            found[name] = gauge
    return found.items()


def throttle(reply: Reply) -> GraphError | None:
    """Graph's word that a limit is reached, whatever the status; None for any other reply."""
    if reply.status < 400 and b'"error"' not in reply.body[:_SEEN_IN]:
        return None
    error = read_error(reply.body)
    return error if error is not None and error.code in STOPPED_BY else None


def _kept(reply: Reply, asker: Asker) -> Reply:
    """Graph's refusal without what belonged to that one call; `suppress_http_code` had asked for another status."""
    status = 400 if reply.status == 200 and _wants_no_code(asker) else reply.status
    fields = headers.without(reply.headers, _NEVER_AGAIN)
    return Reply(status, fields, reply.body, Mode.REUSED, reply.channel, detail="throttled")


def _said_again(error: Reply, asker: Asker, seconds: float) -> Reply:
    """*error* for one more caller, and when to come back (RFC 9110 section 10.2.3)."""
    status = 200 if _wants_no_code(asker) else error.status
    return replace(error, status=status, headers=(*error.headers, ("Retry-After", str(max(1, math.ceil(seconds))))))


def one_node(requests: Iterable[Request]) -> str:
    """The path of the object that all of *requests* are about; the root's, if there is no such object."""
    found = {request.path.split("/", 2)[1] for request in requests}
    return f"/{found.pop()}" if len(found) == 1 else "/"


def _wants_no_code(asker: Asker) -> bool:
    return "suppress_http_code" in asker.query


def _is_of(name: Name, gauge: Gauge, stopped: Iterable[Name], stages: Stages) -> bool:
    """Whether *gauge* says when a stopped pool is open again; an account's own reset counts once it is used up."""
    is_told = bool(gauge.type) or gauge.percent >= stages.stop_pct
    return is_told and any(name[:3] == other[:3] for other in stopped)


def _subject(asker: Asker, usage: Headers) -> tuple[bytes, str]:
    """What *usage* is about: the app whatever was read, if it tells of nothing else; else the very read."""
    if len(usage) == 1 and usage[0][0].lower() == "x-app-usage":
        return asker.fingerprint, ""
    return asker.fingerprint, asker.path if len(asker.path) > 1 else asker.query


def _use(path: str) -> str:
    return _USES.get(path.rpartition("/")[2], "")


def _page(node: str) -> str:
    """The page of a post: their ids are `page_post`."""
    return node.partition("_")[0] if node[:1].isdigit() else node


def _first_node(asker: Asker) -> str:
    return next(iter(nodes(asker.path, asker.query)), "")
