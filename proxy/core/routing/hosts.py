"""Says which Graph host a request is for, and which hosts take batches and reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.core.model import Redacted
from proxy.core.routing.target import read_target

HOSTS_THAT_BATCH = frozenset({"graph.facebook.com", "graph.beta.facebook.com"})
"""Hosts whose root takes batches; of Instagram's and Threads' nothing says so."""

HOSTS_OF_READS = HOSTS_THAT_BATCH | {"graph.instagram.com", "graph.threads.net", "graph.threads.com"}
"""Meta's hosts that answer reads with JSON; the others carry uploads and streams, which pass through."""
_DEFAULT_PORTS = re.compile(r":(?:80|443)\Z")


class Head(Redacted, frozen=True, gc=False):
    """What of a message's head decides anything here; header names in lower case, several of one name in a row.

    Target and headers hold tokens.
    """

    hidden = ("target", "headers")

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GraphHosts:
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


def _named_host(head: Head) -> str:
    """The authority that the caller named, without a port that says nothing."""
    named = read_target(head.target).authority or head.headers.get("host", "").lower()
    return _DEFAULT_PORTS.sub("", named)
