"""Call: one operation that Graph is asked to perform. Reply: its status, header fields and body."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from proxy.emulator.config import Config
from proxy.emulator.language.errors import GraphError, unknown_path
from proxy.emulator.language.query import Params, parse_query

Channel = Literal["single", "batch"]
Headers = list[tuple[str, str]]

_VERSION = re.compile(r"v(\d+)\.(\d+)")
_VERBS = frozenset({"GET", "POST", "PUT", "DELETE"})
_SCHEMES = ("OAuth ", "Bearer ")


@dataclass(slots=True)
class Upload:
    """A file that came with a call, without its bytes."""

    filename: str
    size: int
    sha256: str


@dataclass(slots=True)
class Call:
    """One operation, alone or as a slot of a batch."""

    method: str
    version: str
    path: tuple[str, ...]
    params: Params
    token: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    channel: Channel = "single"
    files: Mapping[str, Upload] = field(default_factory=dict)
    opaque: Upload | None = None
    """A body that was not parsed because it is too large or binary."""
    has_batch_token: bool = False
    """True if the token is the top-level token of a batch, whose proof was checked there."""

    @property
    def user_agent(self) -> str:
        """The client's own name."""
        return self.headers.get("user-agent", "")

    def ids(self) -> list[str]:
        """The objects that this call is about, by the names the caller used."""
        several = self.params.get("ids")
        if several:
            return to_list(several)
        first = self.path[0] if self.path else self.params.get("id")
        return [str(first)] if first else []


@dataclass(slots=True)
class Reply:
    """A status, header fields and the text of a body; `stream` bytes follow for an export."""

    status: int
    headers: Headers
    body: str | None
    stream: int = 0


def build_call(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Params,
    config: Config,
    *,
    version: str | None = None,
) -> Call:
    """Build the call for *target*, a path with a query; body parameters win over the query's."""
    path, _, query = target.partition("?")
    params = parse_query(query)
    params.update(body)
    asked, segments = split_version(path)
    served = served_version(asked or version, config)
    return Call(effective_method(method, params), served, segments, params, token_of(params, headers), headers)


def split_version(path: str) -> tuple[str | None, tuple[str, ...]]:
    """Split `/v25.0/me/feed/` into its version, if any, and its segments."""
    segments = tuple(unquote(part) for part in path.split("/") if part)
    if segments and _VERSION.fullmatch(segments[0]):
        return segments[0], segments[1:]
    return None, segments


def served_version(asked: str | None, config: Config) -> str:
    """The version that answers a call for *asked* (developers.facebook.com, "Versioning")."""
    oldest = config.oldest_version
    if asked is None:
        return config.default_version or oldest
    if _rank(asked) > _rank(config.newest_version):
        raise unknown_path(asked)
    return asked if _rank(asked) >= _rank(oldest) else oldest


def effective_method(method: str, params: Params) -> str:
    """The method of a call: the parameter `method` overrides the request line."""
    override = str(params.get("method", "")).upper()
    verb = override if override in _VERBS else method.upper()
    return "GET" if verb == "HEAD" else verb


def token_of(params: Params, headers: Mapping[str, str]) -> str | None:
    """The access token from parameters or the Authorization header; blank means none."""
    token = params.get("access_token")
    if token:
        return str(token)
    authorization = headers.get("authorization", "")
    for scheme in _SCHEMES:
        if authorization[: len(scheme)].lower() == scheme.lower():
            return authorization[len(scheme) :].strip() or None
    return None


def to_list(value: object) -> list[str]:
    """The texts in a list, in a JSON array, or in a comma-separated string."""
    if isinstance(value, str) and value.startswith("["):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [str(each) for each in value]
    return [part.strip() for part in str(value).split(",") if part.strip()]


def _rank(version: str) -> tuple[int, int]:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise GraphError(f"Unknown version: {version}", code=2500)
    return int(found[1]), int(found[2])
