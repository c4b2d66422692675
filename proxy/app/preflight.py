"""What the machine must have before the sidecar can start: free ports, a folder for entries, a key of its own.

`check` and `serve` ask the same, so that whoever passes the first will not stumble in the second.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

from proxy.app import token_files
from proxy.settings import Address, Settings

PATIENCE_S = 3.0
"""Seconds that are waited for the disk of the cache."""

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
"""What sends traces; other programs may have installed the rest of OpenTelemetry."""

TRACES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""The packages of the extra `traces`."""


def problems(settings: Settings) -> list[str]:
    """One line for each thing of this machine that stands in the way."""
    return [*_ports(settings), *files(settings)]


def _ports(settings: Settings) -> list[str]:
    return [
        *port("listen", settings.listen),
        *port("admin", settings.admin),
        *(port("webhooks.listen", settings.webhooks.listen) if settings.webhooks.listen else ()),
        *(port("intercept.listen", settings.intercept.listen) if settings.intercept.listen else ()),
    ]


def files(settings: Settings) -> list[str]:
    """The same without the ports, which a sidecar that runs has taken."""
    return [
        *(_answered(_no_folder, "cache.dir", settings.cache.dir) or () if settings.cache.disk_mb else ()),
        *(_key(settings.cache.key_file) if isinstance(settings.cache.key_file, Path) else ()),
        *(_extra("traces.endpoint", EXPORTER, TRACES) if settings.traces.endpoint else ()),
        *token_files.token_file_problems(settings, token_files.ADMIN, *token_files.OF_WEBHOOKS),
    ]


def warnings(settings: Settings) -> list[str]:
    """One line for each thing without which the sidecar starts, and does less: memory holds what the disk does not."""
    if not settings.cache.disk_mb:
        return []
    found = _answered(_unfit, "cache.dir", settings.cache.dir)
    return [f"cache.dir = {settings.cache.dir}: its disk does not answer"] if found is None else found


def _answered(look: Callable[[str, Path], list[str]], name: str, folder: Path) -> list[str] | None:
    """What *look* finds; None where the disk of *folder* does not answer: nobody waits for that longer than so."""
    found: list[list[str]] = []
    thread = Thread(target=lambda: found.append(look(name, folder)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return found[0] if found else None


def _extra(name: str, module: str, packages: str) -> Iterator[str]:
    """What a setting needs that is not installed with the rest, and in which packages it is."""
    try:
        is_there = importlib.util.find_spec(module) is not None
    except ImportError:  # nor is what it is in
        is_there = False
    if not is_there:
        yield f"{name} is set, but what it needs is not installed: pip install {packages}"


def port(name: str, address: Address) -> Iterator[str]:
    """Binds the port for a moment, as the server will."""
    try:
        kind, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            # Connections of an earlier run that linger in TIME_WAIT are no reason to refuse.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        yield f"{name} = {address}: cannot listen there: {error.strerror}"


def _folder(name: str, folder: Path) -> list[str]:
    """The folder, or the nearest one above it that exists, must take new files."""
    return _no_folder(name, folder) or _not_writable(name, folder)


def _no_folder(name: str, folder: Path) -> list[str]:
    try:
        nearest = _nearest(folder)
    except OSError as error:
        return [f"{name} = {folder}: cannot be used: {error.strerror}"]
    return [] if nearest.is_dir() else [f"{name} = {folder}: {nearest} is not a folder"]


def _unfit(name: str, folder: Path) -> list[str]:
    """What keeps the store from using the folder of its entries."""
    found = _not_writable(name, folder)
    if found or not os.path.lexists(folder):
        return found
    from proxy.shell.store.directory import follow_root_link, refusal

    why = refusal(follow_root_link(folder, os.geteuid()))
    return [f"{name}: {why}"] if why else []


def _not_writable(name: str, folder: Path) -> list[str]:
    """Rights are not all: a read-only file system, and some that are no disk, refuse root as well."""
    nearest = _nearest(folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"{name} = {folder}: no right to write in {nearest}"]
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        return [f"{name} = {folder}: {nearest} takes no files: {error.strerror}"]
    return []


def _nearest(folder: Path) -> Path:
    """The folder or the nearest one above it that exists. Raises OSError."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _key(file: Path) -> Iterator[str]:
    """A key that exists must be one that the store takes; one that does not is made, so its folder must allow that."""
    if not os.path.lexists(file):
        yield from _folder("cache.key_file", file.parent)
        return
    from proxy.shell.store import (
        KeyFileError,
        load_or_make_key,  # late, so that what asks nothing of a store loads none
    )

    try:
        load_or_make_key(file)
    except KeyFileError as error:
        yield f"cache.key_file: {error}"
