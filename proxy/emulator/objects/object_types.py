"""The kinds of objects, their edges, and how an id shows its kind.

Edges follow the pages under developers.facebook.com/docs/graph-api/reference and /docs/marketing-api/reference.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ObjectType:
    """A type of node: its name in Meta's messages, and the edges that lead from it."""

    name: str
    edges: Mapping[str, str] = field(default_factory=dict)
    """The kind of the objects on each edge."""
    prefix: str = ""
    """The first digits of a generated id."""


_ADS = {"campaigns": "Campaign", "adsets": "AdSet", "ads": "Ad", "adcreatives": "AdCreative"}
_FEED = {
    **dict.fromkeys(("feed", "posts", "published_posts", "tagged", "statuses"), "Post"),
    **dict.fromkeys(("photos", "videos", "advideos", "albums"), "Photo"),
    **dict.fromkeys(("comments", "conversations", "messages"), "Comment"),
    **dict.fromkeys(("likes", "friends", "reactions", "members"), "User"),
}
_ACCOUNT = {
    **_ADS,
    "insights": "Insights",
    "adimages": "AdImage",
    "advideos": "Photo",
    "customaudiences": "Audience",
    "activities": "Comment",
}
_USER = {**_FEED, "accounts": "Page", "adaccounts": "AdAccount", "businesses": "Business", "groups": "Page"}
_OWNED = {"owned_ad_accounts": "AdAccount", "client_ad_accounts": "AdAccount", "owned_pages": "Page"}

OBJECT_TYPES = {
    kind.name: kind
    for kind in (
        # An id that says nothing of its kind may be used as any of them.
        ObjectType("Page", {**_USER, **_ACCOUNT, **_OWNED, "leads": "Comment"}, "1207"),
        ObjectType("User", _USER, "1211"),
        ObjectType("AdAccount", _ACCOUNT, "act_"),
        ObjectType("Campaign", {"adsets": "AdSet", "ads": "Ad", "insights": "Insights"}, "1201"),
        ObjectType("AdSet", {"ads": "Ad", "insights": "Insights", "adcreatives": "AdCreative"}, "1202"),
        ObjectType("Ad", {"insights": "Insights", "adcreatives": "AdCreative", "leads": "Comment"}, "1203"),
        ObjectType("AdCreative", {}, "1204"),
        ObjectType(
            "Post", {"comments": "Comment", "likes": "User", "reactions": "User", "insights": "Insights"}, "1205"
        ),
        ObjectType("Photo", {"comments": "Comment", "likes": "User"}, "1206"),
        ObjectType("Comment", {"comments": "Comment", "likes": "User"}, "1208"),
        ObjectType("AdReportRun", {"insights": "Insights"}, "1209"),
        ObjectType("AdImage", {}, "1210"),
        ObjectType("Audience", {}, "1212"),
        ObjectType("Business", {**_OWNED}, "1213"),
    )
}

_BY_PREFIX = {kind.prefix: kind for kind in OBJECT_TYPES.values() if kind.prefix.isdecimal()}
_SHORTEST = 9
_SHORT_EDGES = {"Page": 3, "Business": 2}


def object_type_of(node_id: str) -> ObjectType | None:
    """The kind of the object with this id; a name that is no id gives None."""
    if node_id.isdecimal():
        known = _BY_PREFIX.get(node_id[:4]) if len(node_id) >= _SHORTEST else None
        return known or OBJECT_TYPES["Page"]
    if node_id.startswith("act_") and node_id[4:].isdecimal():
        return OBJECT_TYPES["AdAccount"]
    if "_" in node_id and node_id.replace("_", "").isdecimal():
        return OBJECT_TYPES["Post"]
    return None


def children(kind: ObjectType, edge_length: int) -> int:
    """How many objects of *kind* an edge holds."""
    return min(_SHORT_EDGES.get(kind.name, edge_length), edge_length)


def child_id(kind: ObjectType, parent: str, index: int | str) -> str:
    """The id of the *index*-th object of *kind* that belongs to *parent*."""
    number = f"{index:04d}" if isinstance(index, int) else index
    if kind.name == "Post":
        return f"{parent.rsplit('_', maxsplit=1)[-1]}_{kind.prefix}{number}"
    return f"{kind.prefix}{owner_number(parent)}{number}"


def owner_number(node_id: str) -> str:
    """The digits by which children know the object: its own, or ten in place of more."""
    digits = node_id.removeprefix("act_").replace("_", "")
    return digits if len(digits) <= 10 else str(10**9 + zlib.crc32(digits.encode()))
