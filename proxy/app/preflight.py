"""Checks the machine before a start: free ports, a folder for entries, a key file, packages, token files.

`check` and `serve` make the same checks, so settings that pass `check` will start.
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

DISK_ANSWERS_WITHIN_S = 3.0
"""Seconds within which the disk of the cache has to answer."""

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
"""The module that sends traces; the rest of OpenTelemetry may be installed for other programs."""

TRACES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""The packages of the extra `traces`."""


def problems(settings: Settings) -> list[str]:
    """Returns one line for each reason why the sidecar cannot start on this machine."""
    return [*_ports(settings), *files(settings)]


def _ports(settings: Settings) -> list[str]:
    return [
        *port("listen", settings.listen),
        *port("admin", settings.admin),
        *(port("webhooks.listen", settings.webhooks.listen) if settings.webhooks.listen else ()),
        *(port("intercept.listen", settings.intercept.listen) if settings.intercept.listen else ()),
    ]


def files(settings: Settings) -> list[str]:
    """Returns the same without the ports, which a running sidecar has taken itself."""
    return [
        *(_within_time(_no_folder, "cache.dir", settings.cache.dir) or () if settings.cache.disk_mb else ()),
        *(_key_file_problems(settings.cache.key_file) if isinstance(settings.cache.key_file, Path) else ()),
        *(_missing_package("traces.endpoint", EXPORTER, TRACES) if settings.traces.endpoint else ()),
        *token_files.token_file_problems(settings, token_files.ADMIN, *token_files.OF_WEBHOOKS),
    ]


def warnings(settings: Settings) -> list[str]:
    """Returns one line for each reason why the sidecar would start without its disk, with entries in memory alone."""
    if not settings.cache.disk_mb:
        return []
    found = _within_time(_store_folder_problems, "cache.dir", settings.cache.dir)
    return [f"cache.dir = {settings.cache.dir}: its disk does not answer"] if found is None else found


def _within_time(look: Callable[[str, Path], list[str]], name: str, folder: Path) -> list[str] | None:
    """Returns what *look* finds; None if the disk of *folder* does not answer in time."""
    found: list[list[str]] = []
    thread = Thread(target=lambda: found.append(look(name, folder)), daemon=True)
    thread.start()
    thread.join(DISK_ANSWERS_WITHIN_S)
    return found[0] if found else None


def _missing_package(name: str, module: str, packages: str) -> Iterator[str]:
    """Yields a line if the *module* that a setting needs is not installed; the line names its *packages*."""
    try:
        is_there = importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is missing too
        is_there = False
    if not is_there:
        yield f"{name} is set, but what it needs is not installed: pip install {packages}"


def port(name: str, address: Address) -> Iterator[str]:
    """Yields a line if *address* cannot be bound; binds it for a moment, as the server will."""
    try:
        kind, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            # Connections of an earlier run in TIME_WAIT do not keep the port from being bound.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        yield f"{name} = {address}: cannot listen there: {error.strerror}"


def _folder_problems(name: str, folder: Path) -> list[str]:
    """Returns why *folder*, or the nearest existing folder above it, takes no new files."""
    return _no_folder(name, folder) or _not_writable(name, folder)


def _no_folder(name: str, folder: Path) -> list[str]:
    try:
        nearest = _nearest(folder)
    except OSError as error:
        return [f"{name} = {folder}: cannot be used: {error.strerror}"]
    return [] if nearest.is_dir() else [f"{name} = {folder}: {nearest} is not a folder"]


def _store_folder_problems(name: str, folder: Path) -> list[str]:
    """Returns why the store could not use the folder of its entries."""
    found = _not_writable(name, folder)
    if found or not os.path.lexists(folder):
        return found
    from proxy.shell.store.directory import follow_root_link, refusal

    why = refusal(follow_root_link(folder, os.geteuid()))
    return [f"{name}: {why}"] if why else []


def _not_writable(name: str, folder: Path) -> list[str]:
    """Returns why nothing can be written there; a read-only file system refuses even root, so a file is tried."""
    nearest = _nearest(folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"{name} = {folder}: no right to write in {nearest}"]
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        return [f"{name} = {folder}: {nearest} takes no files: {error.strerror}"]
    return []


def _nearest(folder: Path) -> Path:
    """Returns *folder* or the nearest existing folder above it. Raises OSError."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _key_file_problems(file: Path) -> Iterator[str]:
    """Yields why the key file cannot be used: it is no valid key, or it is missing and cannot be made."""
    if not os.path.lexists(file):
        yield from _folder_problems("cache.key_file", file.parent)
        return
    from proxy.shell.store import (
        KeyFileError,
        load_or_make_key,  # imported late, so that commands without a store do not load it
    )

    try:
        load_or_make_key(file)
    except KeyFileError as error:
        yield f"cache.key_file: {error}"
