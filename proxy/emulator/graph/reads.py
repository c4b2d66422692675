"""Answers GET: objects, edges, several ids at once, and a few special paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.emulator.config import LiveConfig
from proxy.emulator.language.calls import Call, to_list
from proxy.emulator.language.errors import GraphError, me_without_token, unknown_alias, unknown_path, unsupported
from proxy.emulator.language.fields import parse_fields
from proxy.emulator.language.query import falsy, truthy
from proxy.emulator.objects.nodes import Nodes
from proxy.emulator.objects.object_types import object_type_of
from proxy.emulator.objects.values import View, page_token, picture, user_of

_APP_ID = "999"


@dataclass(slots=True)
class Redirect:
    """An answer that is a redirect to *location*."""

    location: str


@dataclass(slots=True)
class Export:
    """An answer of *size* bytes that is streamed and never held in memory."""

    size: int


def view_of(call: Call, settings: LiveConfig) -> View:
    """The view of objects that *call* asks for: token, version, locale, date format."""
    params = call.params
    by_header = call.headers.get("accept-language") if settings.config.language_by_header else None
    locale = params.get("locale") or by_header or "en_US"
    return View(
        call.token,
        call.version,
        str(locale),
        params.get("date_format"),
        settings.config,
        params,
        call.channel == "batch",
    )


class Reads:
    """Answers GETs from the objects of the world."""

    def __init__(self, nodes: Nodes, settings: LiveConfig) -> None:
        """Answer from *nodes*."""
        self._nodes = nodes
        self._settings = settings

    def answer(self, call: Call) -> Any:
        """Returns the answer to the call: JSON, a Redirect or an Export."""
        special = _SPECIAL.get(call.path)
        if special:
            return special(call)
        if call.params.get("ids"):
            return self._by_ids(call)
        path = self._path_with_id(call)
        if len(path) == 1:
            return self._object(path[0], call)
        if len(path) == 2:
            return self._edge(path[0], path[1], call)
        raise unknown_path("/".join(path[2:])) if path else unsupported("GET")

    def _path_with_id(self, call: Call) -> tuple[str, ...]:
        """The path with `id=` put in its place: `/?id=1`, `/requests?id=1`."""
        node_id = call.params.get("id")
        known = bool(call.path) and (object_type_of(call.path[0]) or call.path[0] == "me")
        return (str(node_id), *call.path) if node_id and not known else call.path

    def _object(self, node_id: str, call: Call) -> dict[str, Any]:
        view = view_of(call, self._settings)
        found = self._nodes.object(resolve_me(node_id, call), parse_fields(call.params.get("fields")), view)
        return {**found, **self._metadata(node_id, call)} if truthy(call.params.get("metadata")) else found

    def _edge(self, node_id: str, edge: str, call: Call) -> Any:
        special = _EDGES.get(edge)
        node_id = resolve_me(node_id, call)
        if special:
            return special(self, node_id, call)
        view = view_of(call, self._settings)
        return self._nodes.edge(node_id, edge, call.params, parse_fields(call.params.get("fields")), view)

    def _by_ids(self, call: Call) -> dict[str, Any]:
        """Each of `ids=a,b` under its own name; one bad name fails all."""
        ids = list(dict.fromkeys(to_list(call.params["ids"])))
        bad = [node_id for node_id in ids if not self._exists(resolve_me(node_id, call))]
        if bad:
            raise unknown_alias(bad)
        if not call.path:
            return {node_id: self._object(node_id, call) for node_id in ids}
        return {node_id: self._edge(node_id, call.path[0], call) for node_id in ids}

    def _exists(self, node_id: str) -> bool:
        try:
            self._nodes.existing(node_id)
        except GraphError:
            return False
        return True

    def _metadata(self, node_id: str, call: Call) -> dict[str, Any]:
        """Returns the members that `metadata=1` adds (developers.facebook.com, "Graph API Overview")."""
        node = self._nodes.existing(resolve_me(node_id, call))
        origin = f"{self._settings.config.link_origin}/{call.version}/{node.id}"
        fields = [{"name": name, "description": f"The {name}", "type": "string"} for name in ("id", "name")]
        links = {edge: f"{origin}/{edge}" for edge in node.object_type.edges}
        return {"metadata": {"fields": fields, "type": node.object_type.name.lower(), "connections": links}}

    def picture(self, node_id: str, call: Call) -> Any:
        """Returns a redirect to the image, or with `redirect=0` its description."""
        found = picture(self._nodes.existing(node_id), view_of(call, self._settings))
        return {"data": found} if falsy(call.params.get("redirect")) else Redirect(found["url"])

    def export(self, node_id: str, call: Call) -> Export:
        """As many bytes as `bytes` says."""
        self._nodes.existing(node_id)
        return Export(int(str(call.params.get("bytes", 0))))


def resolve_me(node_id: str, call: Call) -> str:
    """The id that `me` stands for; any other name stands for itself."""
    if node_id != "me":
        return node_id
    if call.token is None:
        raise me_without_token()
    return user_of(call.token)


def _access_token(call: Call) -> dict[str, Any]:
    old = str(call.params.get("fb_exchange_token") or call.params.get("code") or call.params.get("client_id"))
    return {"access_token": page_token("exchange", old), "token_type": "bearer", "expires_in": 5_184_000}


def _debug_token(call: Call) -> dict[str, Any]:
    token = str(call.params.get("input_token", ""))
    return {
        "data": {
            "app_id": _APP_ID,
            "type": "USER",
            "application": "Emulated",
            "expires_at": 0,
            "is_valid": bool(token),
            "issued_at": 1_704_164_645,
            "scopes": ["ads_read", "pages_show_list", "public_profile"],
            "user_id": user_of(token),
        }
    }


_SPECIAL: dict[tuple[str, ...], Callable[[Call], Any]] = {
    ("oauth", "access_token"): _access_token,
    ("debug_token",): _debug_token,
}
_EDGES: dict[str, Callable[[Reads, str, Call], Any]] = {"picture": Reads.picture, "export": Reads.export}
