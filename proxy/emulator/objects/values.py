"""The fields of objects: one table from a field's name to how its value is made."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from proxy.emulator.config import Config
from proxy.emulator.language.query import Params
from proxy.emulator.objects.ad_fields import EMPTY_FIELDS
from proxy.emulator.objects.object_types import OBJECT_TYPES, child_id, owner_number
from proxy.emulator.objects.world import Node


@dataclass(slots=True)
class View:
    """How a caller sees objects: token, version, locale, date format, parameters."""

    token: str | None
    version: str
    locale: str
    date_format: str | None
    config: Config
    params: Params
    in_batch: bool = False

    @property
    def viewer(self) -> str:
        """The id of the user behind the token."""
        return user_of(self.token)


@dataclass(slots=True)
class Ref:
    """A field that is another object."""

    id: str


Maker = Callable[[Node, View], Any]

_STATUS = ("ACTIVE", "PAUSED")
_NAMES = ("Søndagsklubben", "Café Nørrebro", "Ærø Rederi", "Blå Port", "Bäckerei König", "東京 Walks")
_CATEGORY = {"da": "Fællesskab", "de": "Gemeinschaft", "fr": "Communauté", "es": "Comunidad", "en": "Community"}
_DEFAULT_DATE = "Y-m-d\\TH:i:sO"
_PHP_DATES = {
    "Y": "%Y", "y": "%y", "m": "%m", "d": "%d", "H": "%H", "h": "%I", "i": "%M", "s": "%S",
    "D": "%a", "l": "%A", "M": "%b", "F": "%B", "O": "%z", "A": "%p", "c": "%Y-%m-%dT%H:%M:%S+00:00",
}  # fmt: skip


@lru_cache(maxsize=65536)
def user_of(token: str | None) -> str:
    """Returns the id of the user of a token; 0 without a token."""
    if token is None:
        return "0"
    number = int.from_bytes(blake2b(token.encode(), digest_size=8).digest(), "big")
    return f"1211{number % 10**11:011d}"


def page_token(page: str, token: str | None) -> str:
    """The token with which this user acts as a page."""
    return "EAAP" + blake2b(f"{page}|{token}".encode(), digest_size=20).hexdigest()


def format_time(at: float, view: View) -> str | int:
    """A time as Graph writes it, or in the PHP `date_format` that was asked for."""
    if view.date_format is None:
        return _iso(int(at))
    if view.date_format == "U":
        return int(at)
    return _php_date(datetime.fromtimestamp(int(at), UTC), view.date_format)


@lru_cache(maxsize=65536)
def _iso(at: int) -> str:
    return _php_date(datetime.fromtimestamp(at, UTC), _DEFAULT_DATE)


def _php_date(when: datetime, pattern: str) -> str:
    parts, plain = [], False
    for char in pattern:
        parts.append(char if plain or char == "\\" else when.strftime(_PHP_DATES.get(char, char)))
        plain = char == "\\" and not plain
    return "".join(part for part in parts if part != "\\")


def default_fields(node: Node, config: Config) -> tuple[str, ...]:
    """Returns the default fields of a node, for a request without `fields`."""
    names = _DEFAULTS.get(node.object_type.name, _ID_AND_NAME)
    viewer = ("viewer",) if config.viewer_by_default else ()
    filling = ("description",) if config.body_bytes else ()
    return names + viewer + filling


def is_empty_field(node: Node, name: str) -> bool:
    """Returns whether the field exists on this kind and is empty, so that Graph leaves it out."""
    return name in EMPTY_FIELDS.get(node.object_type.name, ())


# --- makers


def _name(node: Node, _view: View) -> str:
    again = f" · {node.revision}" if node.revision else ""
    return f"{_NAMES[node.number % len(_NAMES)]} {node.id}{again}"


def _description(node: Node, view: View) -> str:
    text = _prose(view.config.seed)
    size = max(view.config.body_bytes - 150, 1) if view.config.body_bytes else 300
    start = (node.number + node.revision * 97) % 32_768
    return (text[start:] * (size // 32_768 + 1))[:size]


@lru_cache(maxsize=4)
def _prose(seed: int) -> str:
    """A long text that compresses about as text does."""
    dice = random.Random(seed)
    words = ["".join(dice.choices("aeioudlmnrstkvb", k=dice.randint(2, 9))) for _ in range(800)]
    return " ".join(dice.choices(words, k=16_000))[:65_536]


def _link(node: Node, _view: View) -> str:
    return f"https://www.facebook.com/{node.id}/café/?ref=graph%20api"


def _message(node: Node, view: View) -> str:
    return f"Hej fra {_name(node, view)} — læs mere på https://example.com/{node.number % 10_000}"


def _category(_node: Node, view: View) -> str:
    return _CATEGORY.get(view.locale[:2].lower(), _CATEGORY["en"])


def _account_id(node: Node, _view: View) -> str:
    return node.id[4:] if node.object_type.name == "AdAccount" else _owner(node)


def _owner(node: Node) -> str:
    if node.owner:
        return node.owner
    return node.id[4:-4] if node.id.isdecimal() and len(node.id) > 8 else owner_number(node.id)


def _related(kind: str) -> Maker:
    return lambda node, _view: Ref(child_id(OBJECT_TYPES[kind], _owner(node), node.number % 7))


def _related_id(kind: str) -> Maker:
    return lambda node, _view: child_id(OBJECT_TYPES[kind], _owner(node), node.number % 7)


def _money(node: Node, _view: View) -> str:
    return str(1000 + node.number % 90_000)


def _picture(node: Node, view: View) -> dict[str, Any]:
    return {"data": picture(node, view)}


def picture(node: Node, view: View) -> dict[str, Any]:
    """The profile picture of a node (developers.facebook.com, "User Picture")."""
    size = int(str(view.params.get("height") or view.params.get("width") or 50))
    url = f"{view.config.cdn_origin}/v/t1.30497-1/{node.id}_n.jpg?oh={node.number:x}&oe=6A0B1C2D"
    return {"height": size, "is_silhouette": False, "url": url, "width": size}


FIELD_MAKERS: dict[str, Maker] = {
    "id": lambda node, _view: node.id,
    "name": _name,
    "viewer": lambda _node, view: view.viewer,
    "status": lambda node, _view: _STATUS[node.number % 2],
    "effective_status": lambda node, _view: _STATUS[node.number % 2],
    "configured_status": lambda node, _view: _STATUS[node.number % 2],
    "created_time": lambda node, view: format_time(node.created, view),
    "updated_time": lambda node, view: format_time(node.updated, view),
    "start_time": lambda node, view: format_time(node.created, view),
    "message": _message,
    "story": _message,
    "title": _name,
    "body": _message,
    "about": _message,
    "link": _link,
    "permalink_url": _link,
    "username": lambda node, _view: f"user.{node.id}",
    "description": _description,
    "category": _category,
    "emails": lambda node, _view: [f"post+{node.id}@example.com"],
    "email": lambda node, _view: f"post+{node.id}@example.com",
    "fan_count": lambda node, _view: node.number % 100_000 + node.revision,
    "followers_count": lambda node, _view: node.number % 90_000 + node.revision,
    "is_published": lambda _node, _view: True,
    "picture": _picture,
    "from": lambda node, _view: Ref(owner_number(node.id.split("_")[0])),
    "access_token": lambda node, view: page_token(node.id, view.token),
    "tasks": lambda _node, _view: ["ADVERTISE", "ANALYZE", "CREATE_CONTENT", "MESSAGING", "MODERATE", "MANAGE"],
    "account_id": _account_id,
    "account_status": lambda _node, _view: 1,
    "currency": lambda _node, _view: "DKK",
    "timezone_name": lambda _node, _view: "Europe/Copenhagen",
    "amount_spent": _money,
    "balance": _money,
    "business_name": _name,
    "campaign_id": _related_id("Campaign"),
    "adset_id": _related_id("AdSet"),
    "campaign": _related("Campaign"),
    "adset": _related("AdSet"),
    "creative": _related("AdCreative"),
    "daily_budget": _money,
    "lifetime_budget": lambda _node, _view: "0",
    "budget_remaining": _money,
    "bid_amount": lambda node, _view: node.number % 500,
    "objective": lambda _node, _view: "OUTCOME_TRAFFIC",
    "buying_type": lambda _node, _view: "AUCTION",
    "billing_event": lambda _node, _view: "IMPRESSIONS",
    "optimization_goal": lambda _node, _view: "REACH",
    "targeting": lambda _node, _view: {"age_max": 65, "age_min": 18, "geo_locations": {"countries": ["DK", "SE"]}},
    "special_ad_categories": lambda _node, _view: [],
    "hash": lambda node, _view: f"{node.number:016x}{node.number:016x}",
    "url": lambda node, view: f"{view.config.cdn_origin}/v/t45.1600-4/{node.id}_n.png?oe=6A0B1C2D",
    "object_type": lambda _node, _view: "SHARE",
    "thumbnail_url": lambda node, view: picture(node, view)["url"],
    "height": lambda _node, _view: 720,
    "width": lambda _node, _view: 960,
}

_ID_AND_NAME = ("id", "name")
_DEFAULTS = {
    "Post": ("created_time", "message", "id"),
    "Photo": ("created_time", "name", "id"),
    "Comment": ("created_time", "from", "message", "id"),
    "AdAccount": ("account_id", "id"),
    "AdImage": ("hash", "id"),
}
_PAGE_OF_A_USER = ("access_token", "category", "name", "id", "tasks")


def listed_fields(node: Node, edge: str, config: Config) -> tuple[str, ...]:
    """Returns an object as an edge lists it; a user's pages have their tokens."""
    if edge == "accounts":
        return _PAGE_OF_A_USER + (("viewer",) if config.viewer_by_default else ())
    return default_fields(node, config)
