"""Decides where rewritten paging links lead: to the address under which the caller reached the sidecar.

`core/graph/paging` rewrites the links: for replies of reads in `render` and, for those that the fast path answers in a
batch, in `shell/downstream/fast_flights`; for messages that pass through in `passed_paging_links`; for slots of an
application's batch in `shell/downstream/client_batch_slots`. A hit of the fast path has its links from `render`. With
`paging.rewrite = false` links stay as they are. So do the links of a caller that reached the sidecar by one of Graph's
names: they lead back without a change.
"""

from __future__ import annotations

import msgspec

from proxy.core.memory.memo import memo
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.normal_form import is_authority


class LinkOrigin(msgspec.Struct, frozen=True, gc=False):
    """The origin that rewritten paging links get, and the hosts whose links are rewritten."""

    origin: str  # scheme and authority under which the caller reached the sidecar; "": links stay as they are
    hosts: frozenset[str]  # the authorities whose links are rewritten


LINKS_UNCHANGED = LinkOrigin("", frozenset())


def link_origin(head: Head, scheme: str, hosts: GraphHosts, *, rewrites: bool) -> LinkOrigin:
    """Returns the origin for links in replies to the message with *head*, which came by *scheme*."""
    host = head.headers.get("host", "")
    if not rewrites or not is_authority(host) or hosts.by_name(head):
        return LINKS_UNCHANGED
    return _origin(scheme, host, hosts)


@memo()
def _origin(scheme: str, host: str, hosts: GraphHosts) -> LinkOrigin:
    """Returns one object for all readers under the same address, for it is kept with each read."""
    return LinkOrigin(f"{scheme}://{host}", hosts.link_hosts)
