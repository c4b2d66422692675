"""`graph-sidecar ca`: makes the authority of transparent mode, and tells clients of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from proxy.app import from_settings
from proxy.commands import trust
from proxy.settings import Settings
from proxy.shell.intercept import ca, x509
from proxy.shell.intercept.ca import AuthorityError
from proxy.shell.intercept.x509 import Pair


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks with."""

    settings: Settings
    environ: Mapping[str, str]
    force: bool = False

    @property
    def folder(self) -> Path:
        """Where the authority lies, or shall lie."""
        return self.settings.intercept.ca_dir


def init(wish: Wish) -> str:
    """Make an authority for the hosts that are set; one that serves them already is left alone."""
    hosts, now = from_settings.graph_hosts(wish.settings), datetime.now(UTC)
    found = None if wish.force else ca.load_ca(wish.folder)
    if found is None:
        found = ca.make_ca(wish.folder, hosts, now, replace=wish.force)
    if why := x509.ca_problem(found, hosts, now):
        raise AuthorityError(f"{wish.folder}: {why}; --force makes a new one, which clients have to be told of")
    return _described(found, wish.folder)


def show(wish: Wish) -> str:
    """The authority, for eyes and for trust stores."""
    known = _known(wish.folder)
    return _described(known, wish.folder) + known.public_pem.decode()


def bundle(wish: Wish) -> str:
    """What a client takes in the place of its own list of roots."""
    return trust.ca_bundle(_known(wish.folder).public_pem, wish.environ).decode()


def env(wish: Wish) -> str:
    """The variables, as a shell reads them; the files that they name lie beside the authority."""
    told = trust.Told(wish.folder, from_settings.graph_hosts(wish.settings), wish.environ)
    for path, content in trust.files(told, _known(wish.folder).public_pem).items():
        ca.write(path, content)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in trust.trusting(told).items())


ACTIONS: dict[str, Callable[[Wish], str]] = {"init": init, "show": show, "bundle": bundle, "env": env}


def _known(folder: Path) -> Pair:
    found = ca.load_ca(folder)
    if found is None:
        raise AuthorityError(f"{folder}: there is no authority; `graph-sidecar ca init` makes one")
    return found


def _described(pair: Pair, folder: Path) -> str:
    certificate = pair.certificate
    lines = [
        f"authority  {certificate.subject.rfc4514_string()}",
        f"in         {ca.ca_file(folder)}",
        f"valid      {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}",
        f"SHA-256    {certificate.fingerprint(hashes.SHA256()).hex()}",
        "signs for  " + "\n           ".join(sorted(x509.hosts_of(certificate))),
    ]
    return "\n".join(lines) + "\n"
