"""Parses `shared.url`, which says where the shared store is."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SHAPES: Final = (
    "must be valkey:// or redis:// (valkeys:// or rediss:// for TLS) with host, perhaps :port and /database, "
    "unix:///path/to/socket, or valkey+sentinel://host1,host2/NAME"
)
_TLS: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}


class Location(NamedTuple):
    """The address of the store: a socket's *path*, the first of *hosts*, or the *name* for which Sentinels know it."""

    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    database: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Returns the address as messages name it."""
        if self.path:
            return self.path
        where = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.name} at {where}" if self.name else where


def read_location(url: str) -> Location:
    """Returns the location in *url*. Raises ValueError, whose text says what is allowed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(SHAPES) from None
    if "@" in parts.netloc:
        raise ValueError("must hold no user or password: shared.username_file and shared.password_file do")
    if parts.query or parts.fragment:
        raise ValueError(SHAPES)
    kind, plus, sentinel = parts.scheme.partition("+")
    if kind == "unix" and not plus and not parts.netloc and len(parts.path) > 1:
        return Location(path=unquote(parts.path))
    if kind not in _TLS or (plus and sentinel != "sentinel") or not parts.netloc:
        raise ValueError(SHAPES)
    first, *rest = parts.path.removeprefix("/").split("/")
    if plus:
        hosts = tuple(_host(each, SENTINEL_PORT) for each in parts.netloc.split(","))
        if not first or len(rest) > 1:
            raise ValueError(SHAPES)
        return Location(hosts, _TLS[kind], _database(*rest), name=first)
    if rest:
        raise ValueError(SHAPES)
    return Location((_host(parts.netloc, PORT),), _TLS[kind], _database(first))


def _host(netloc: str, port: int) -> tuple[str, int]:
    if "," in netloc or any(sign.isspace() for sign in netloc):
        raise ValueError(SHAPES)
    parts = urlsplit(f"//{netloc}")
    try:
        given = parts.port
    except ValueError:
        raise ValueError(SHAPES) from None
    if not parts.hostname or given == 0 or parts.path:
        raise ValueError(SHAPES)
    return parts.hostname, given or port


def _database(text: str = "") -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError(SHAPES)
    return int(text or "0")
