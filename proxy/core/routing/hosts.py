"""Says which Graph host a request is for, and which hosts take batches and reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.core.model import Redacted
from proxy.core.routing.normal_form import read_target

HOSTS_THAT_BATCH = frozenset({"graph.facebook.com", "graph.beta.facebook.com"})
"""The hosts whose root accepts batches; Meta does not document that for Instagram's and Threads' hosts."""

HOSTS_OF_READS = HOSTS_THAT_BATCH | {"graph.instagram.com", "graph.threads.net", "graph.threads.com"}
"""The hosts of Meta's that answer reads with JSON; other hosts serve uploads and streams, which pass through."""
_DEFAULT_PORTS = re.compile(r":(?:80|443)\Z")


class Head(Redacted, frozen=True, gc=False):
    """Method, target and headers of a message; header names in lower case, values of one name joined by commas.

    Target and headers hold tokens.
    """

    hidden = ("target", "headers")

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GraphHosts:
    """Graph's hosts: calls go to *origin* unless the caller names one of *others* (authorities in lower case)."""

    origin: str
    others: frozenset[str]

    @property
    def link_hosts(self) -> frozenset[str]:
        """The authorities of links that lead to Graph."""
        return self.others | {self.origin, "graph.facebook.com"}

    def of(self, head: Head) -> str:
        """Returns the authority of Graph's that *head* is for."""
        named = _named_host(head)
        return named if named in self.others else self.origin

    def knows(self, head: Head) -> bool:
        """Returns whether *head* names an authority of Graph's."""
        return _named_host(head) in self.link_hosts

    def by_name(self, head: Head) -> bool:
        """Returns whether the caller used Graph's own host name, so that unchanged links come back here too."""
        named = _named_host(head)
        return named == self.origin or named in self.others or named in HOSTS_THAT_BATCH

    def takes_reads(self, host: str) -> bool:
        """Returns whether reads of *host* are JSON that can be stored."""
        return host == self.origin or host in HOSTS_OF_READS

    def takes_batches(self, host: str) -> bool:
        """Returns whether the root of *host* accepts batches."""
        return host in HOSTS_THAT_BATCH or (host == self.origin and host not in HOSTS_OF_READS)


def _named_host(head: Head) -> str:
    """Returns the authority that the caller named, without a default port."""
    named = read_target(head.target).authority or head.headers.get("host", "").lower()
    return _DEFAULT_PORTS.sub("", named)
