"""The certificate authority of transparent mode: its file, and leaf certificates that are made when first needed."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.core.http.errors import Uncertified
from proxy.shell import files

if TYPE_CHECKING:
    from proxy.shell.intercept.x509 import Pair

RENEW_BEFORE = timedelta(days=1)
"""A leaf certificate is replaced this long before it expires."""

_MAX_FILE_BYTES = 65_536


class AuthorityError(Exception):
    """The authority cannot be used; the message says where its file is and what is allowed."""


def _now() -> datetime:
    return datetime.now(UTC)


class LeafContext(ssl.SSLContext):
    """The TLS context of one leaf certificate; `name` is the server name that it terminates TLS for."""

    name: str
    begins: datetime
    ends: datetime


def load_ca(folder: Path) -> Pair | None:
    """The authority in *folder*, or None if there is no file. Raises AuthorityError if the file cannot be trusted."""
    from proxy.shell.intercept import x509  # takes memory that only transparent mode needs

    path = ca_file(folder)
    try:
        with files.open_for_reading(path) as descriptor:
            if files.access_problem(os.fstat(descriptor)):
                raise AuthorityError(
                    f"{path}: must be a plain file of this user that no other user can read (mode 0600)"
                )
            return x509.read_certificates(os.read(descriptor, _MAX_FILE_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise AuthorityError(
            f"{path}: holds no authority that graph-sidecar made: {error}; `ca init --force` makes a new one"
        ) from None


def make_ca(folder: Path, hosts: frozenset[str], now: datetime, *, replace: bool = False) -> Pair:
    """Make an authority for *hosts* in *folder*; an existing one is returned instead, unless *replace*."""
    from proxy.shell.intercept import x509  # takes memory that only transparent mode needs

    path = ca_file(folder)
    try:
        files.make_folder(folder)
        with files.draft(path, x509.make_authority(hosts, now).pem) as draft:
            if replace:
                draft.replace(path)
            else:
                files.link_unless_exists(draft, path)
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be made: {error.strerror or type(error).__name__}") from None
    made = load_ca(folder)
    if made is None:
        raise AuthorityError(f"{path}: was removed while it was being made")
    return made


def load_or_make_ca(folder: Path, hosts: frozenset[str], now: datetime) -> Pair:
    """The authority in *folder*, made now if there is none. Raises AuthorityError."""
    return load_ca(folder) or make_ca(folder, hosts, now)


def ca_file(folder: Path) -> Path:
    """The authority's file in *folder*: certificate and key in one file, so that they always belong together."""
    return folder / "authority.pem"


def write(path: Path, content: bytes) -> None:
    """Write *content* to *path* at once, and make its folder if it is missing. Raises AuthorityError."""
    try:
        files.make_folder(path.parent)
        with files.draft(path, content) as draft:
            draft.replace(path)
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be written: {error.strerror or type(error).__name__}") from None


class Authority:
    """The leaf certificates of the authority in a folder; missing ones are made when first needed, in a thread."""

    def __init__(self, folder: Path, hosts: frozenset[str], now: Callable[[], datetime] = _now) -> None:
        """Use the authority in *folder*, made for *hosts* if it is missing."""
        self._folder = folder
        self._hosts = hosts
        self._now = now
        self._leaves: dict[str, LeafContext] = {}
        self._minting = asyncio.Lock()

    async def leaf(self, name: str) -> LeafContext:
        """The TLS context for *name*, made or renewed if necessary. Raises Uncertified if no client would trust it."""
        found = self.cached_leaf(name)
        if found is not None and found.ends - self._now() > RENEW_BEFORE:
            return found
        async with self._minting:
            found = self.cached_leaf(name)
            if found is None or found.ends - self._now() <= RENEW_BEFORE:
                found = self._leaves[name] = await asyncio.to_thread(self._mint, name)
        return found

    def cached_leaf(self, name: str) -> LeafContext | None:
        """The existing TLS context for *name* if its certificate is valid now; None after a clock was set back."""
        found = self._leaves.get(name)
        return found if found is not None and found.begins <= self._now() < found.ends else None

    def _mint(self, name: str) -> LeafContext:
        from proxy.shell.intercept import x509

        now = self._now()
        try:
            pair = load_or_make_ca(self._folder, self._hosts, now)
        except AuthorityError as error:
            raise Uncertified(f"no certificate can be made for {name}: {error}") from None
        if why := x509.ca_problem(pair, frozenset({name}), now):
            raise Uncertified(f"{self._folder}: {why}; `graph-sidecar ca init --force` makes a new one")
        return leaf_context(name, x509.make_leaf(name, pair, now))


def leaf_context(name: str, pair: Pair) -> LeafContext:
    """A TLS context for *name* with the certificate and key of *pair*."""
    context = LeafContext(ssl.PROTOCOL_TLS_SERVER)
    context.name = name
    context.begins, context.ends = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(pair.pem) as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a temporary file with *content*, because OpenSSL takes only paths; in memory where possible."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("leaf", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(content)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
