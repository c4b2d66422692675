"""Cursors, and the links that lead to the next page (developers.facebook.com, "Paginated Results")."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from proxy.emulator.language.errors import bad_parameter
from proxy.emulator.language.query import Params, encode_query
from proxy.emulator.objects.values import View

_NEVER_ECHOED = frozenset(
    {
        "access_token", "appsecret_proof", "appsecret_time", "limit", "after", "before",
        "method", "batch", "include_headers", "callback", "debug", "ids", "id",
    }
)  # fmt: skip


@dataclass(slots=True)
class Page:
    """The places `start` up to `stop` of an edge with `places` in all."""

    start: int
    stop: int
    places: int
    limit: int


def page_of(params: Params, places: int, view: View) -> Page:
    """The page that `limit`, `after`, `before` and `offset` ask for."""
    limit = min(_number(params, "limit", view.config.page_size), view.config.max_page_size)
    start = _number(params, "offset", 0)
    if params.get("after"):
        start = _place(str(params["after"])) + 1
    elif params.get("before"):
        stop = _place(str(params["before"]))
        return Page(max(0, stop - limit), max(0, min(stop, places)), places, limit)
    return Page(start, min(start + limit, places), places, limit)


def paging(page: Page, path: str, params: Params, view: View) -> dict[str, Any]:
    """The `paging` of a page; `next` is absent on the last one, its cursor is not."""
    if page.stop <= page.start:
        return {}
    before, after = _cursor(page.start), _cursor(page.stop - 1)
    found: dict[str, Any] = {"cursors": {"before": before, "after": after}}
    if page.stop < page.places:
        found["next"] = _link(path, params, view, {"limit": str(page.limit), "after": after})
    if page.start > 0:
        found["previous"] = _link(path, params, view, {"limit": str(page.limit), "before": before})
    return found


def _link(path: str, params: Params, view: View, place: Params) -> str:
    """An absolute link: it holds the token and every parameter, and never a proof."""
    asked: Params = {"access_token": view.token} if view.token else {}
    asked |= {name: value for name, value in params.items() if name not in _NEVER_ECHOED}
    if view.in_batch and view.config.batch_links == "marked":
        asked = {"_fb_batch_child_request": "1", **asked}
        place = place | {"_fb_batch_sig": "AbC%2F1", "_fb_batch_expires": "9", "_fb_url": path, "_fb_profilable": "x"}
    return f"{view.config.link_origin}/{view.version}/{path}?{encode_query(asked | place)}"


def _number(params: Params, name: str, default: int) -> int:
    value = params.get(name)
    if value in (None, ""):
        return default
    try:
        return max(0, int(str(value)))
    except ValueError:
        raise bad_parameter(f"param {name} must be an integer") from None


def _cursor(place: int) -> str:
    # Real cursors are long and say nothing; a prefix and padding-free base64 look the part.
    return base64.urlsafe_b64encode(f"QVFIUplace{place}".encode()).decode().rstrip("=") + "ZD"


def _place(cursor: str) -> int:
    text = cursor.removesuffix("ZD")
    try:
        return int(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).removeprefix(b"QVFIUplace"))
    except (ValueError, binascii.Error):
        raise bad_parameter(f"Invalid cursors values provided: {cursor}") from None
