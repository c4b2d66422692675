"""The authority of transparent mode: kept in a file of its owner's; its leaves in memory, minted when first wanted."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy.core.http.errors import Uncertified
from proxy.shell import files
from proxy.shell.intercept import x509
from proxy.shell.intercept.x509 import Pair

RENEWED_BEFORE = timedelta(days=1)
"""A leaf is replaced when it has no more than this to live."""

_LARGEST = 65_536


class AuthorityError(Exception):
    """There is no authority that can be used; the message says where it was looked for and what would do."""


def _now() -> datetime:
    return datetime.now(UTC)


class Leaf(ssl.SSLContext):
    """How TLS is ended under one name; what came through such a connection can be asked for the *name*."""

    name: str
    begins: datetime
    ends: datetime


def load_ca(folder: Path) -> Pair | None:
    """The authority in *folder*; None if there is none. Raises AuthorityError for one that cannot be trusted."""
    path = file_in(folder)
    try:
        with files.opened(path) as descriptor:
            if files.fault(os.fstat(descriptor)):
                raise AuthorityError(f"{path}: must be a plain file of this user's that no other can read (mode 0600)")
            return x509.read_certificates(os.read(descriptor, _LARGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise AuthorityError(f"{path}: is no authority of ours: {error}; `ca init --force` makes a new one") from None


def make_ca(folder: Path, hosts: frozenset[str], now: datetime, *, anew: bool = False) -> Pair:
    """A new authority for *hosts* in *folder*; of two that make one, one wins, unless it is to be made *anew*."""
    path = file_in(folder)
    try:
        files.make_folder(folder)
        with files.draft(path, x509.authority(hosts, now).pem) as draft:
            if anew:
                draft.replace(path)
            else:
                files.put_first(draft, path)
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be made: {error.strerror or type(error).__name__}") from None
    made = load_ca(folder)
    if made is None:
        raise AuthorityError(f"{path}: is gone again")
    return made


def load_or_make_ca(folder: Path, hosts: frozenset[str], now: datetime) -> Pair:
    """The authority in *folder*, made now if there is none. Raises AuthorityError."""
    return load_ca(folder) or make_ca(folder, hosts, now)


def file_in(folder: Path) -> Path:
    """Where the authority of *folder* lies: certificate and key in one file, so that they cannot be of two."""
    return folder / "authority.pem"


def write(path: Path, content: bytes) -> None:
    """Put *content* at *path*, whole, in a folder that is made where it lacks. Raises AuthorityError."""
    try:
        files.make_folder(path.parent)
        with files.draft(path, content) as draft:
            draft.replace(path)
    except OSError as error:
        raise AuthorityError(f"{path}: cannot be written: {error.strerror or type(error).__name__}") from None


class Authority:
    """Leaves of the authority in a folder. The first wish makes what is missing, off the loop."""

    def __init__(self, folder: Path, hosts: frozenset[str], now: Callable[[], datetime] = _now) -> None:
        """Sign for *hosts*, by the authority in *folder*."""
        self._folder = folder
        self._hosts = hosts
        self._now = now
        self._leaves: dict[str, Leaf] = {}
        self._minting = asyncio.Lock()

    async def leaf(self, name: str) -> Leaf:
        """How TLS is ended as *name*. Raises Uncertified where no client would trust it."""
        found = self.at_hand(name)
        if found is not None and found.ends - self._now() > RENEWED_BEFORE:
            return found
        async with self._minting:
            found = self.at_hand(name)
            if found is None or found.ends - self._now() <= RENEWED_BEFORE:
                found = self._leaves[name] = await asyncio.to_thread(self._mint, name)
        return found

    def at_hand(self, name: str) -> Leaf | None:
        """A leaf for *name* that was minted before and is good now; none of a clock that was ahead."""
        found = self._leaves.get(name)
        return found if found is not None and found.begins <= self._now() < found.ends else None

    def _mint(self, name: str) -> Leaf:
        now = self._now()
        try:
            pair = load_or_make_ca(self._folder, self._hosts, now)
        except AuthorityError as error:
            raise Uncertified(f"there is no authority to speak for {name}: {error}") from None
        if why := x509.unfit(pair, frozenset({name}), now):
            raise Uncertified(f"{self._folder}: {why}; `graph-sidecar ca init --force` makes a new one")
        return context_of(name, x509.leaf(name, pair, now))


def context_of(name: str, pair: Pair) -> Leaf:
    """How TLS is ended with the certificate and key of *pair*."""
    context = Leaf(ssl.PROTOCOL_TLS_SERVER)
    context.name = name
    context.begins, context.ends = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(pair.pem) as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A name for *content*, for OpenSSL takes nothing else; in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("leaf", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(content)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
