"""`graph-sidecar ca`: makes the certificate authority of transparent mode, and prints what clients need to trust it."""

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
class CaRequest:
    """The options of the command."""

    settings: Settings
    environ: Mapping[str, str]
    force: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the authority."""
        return self.settings.intercept.ca_dir


def init(request: CaRequest) -> str:
    """Make an authority for the configured hosts; an existing authority that can sign for them is kept."""
    hosts, now = from_settings.graph_hosts(request.settings), datetime.now(UTC)
    found = None if request.force else ca.load_ca(request.folder)
    if found is None:
        found = ca.make_ca(request.folder, hosts, now, replace=request.force)
    if why := x509.ca_problem(found, hosts, now):
        raise AuthorityError(f"{request.folder}: {why}; --force makes a new one, which clients then have to trust")
    return _description(found, request.folder)


def show(request: CaRequest) -> str:
    """Returns a description of the authority, and its certificate as PEM."""
    known = _existing_ca(request.folder)
    return _description(known, request.folder) + known.public_pem.decode()


def bundle(request: CaRequest) -> str:
    """Returns the bundle that a client uses in place of its own list of roots."""
    return trust.ca_bundle(_existing_ca(request.folder).public_pem, request.environ).decode()


def env(request: CaRequest) -> str:
    """Returns `export` lines for a shell; writes the files that they name beside the authority."""
    context = trust.TrustContext(request.folder, from_settings.graph_hosts(request.settings), request.environ)
    for path, content in trust.files(context, _existing_ca(request.folder).public_pem).items():
        ca.write(path, content)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in trust.trusting(context).items())


ACTIONS: dict[str, Callable[[CaRequest], str]] = {"init": init, "show": show, "bundle": bundle, "env": env}


def _existing_ca(folder: Path) -> Pair:
    found = ca.load_ca(folder)
    if found is None:
        raise AuthorityError(f"{folder}: there is no authority; `graph-sidecar ca init` makes one")
    return found


def _description(pair: Pair, folder: Path) -> str:
    certificate = pair.certificate
    lines = [
        f"authority  {certificate.subject.rfc4514_string()}",
        f"in         {ca.ca_file(folder)}",
        f"valid      {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}",
        f"SHA-256    {certificate.fingerprint(hashes.SHA256()).hex()}",
        "signs for  " + "\n           ".join(sorted(x509.hosts_of(certificate))),
    ]
    return "\n".join(lines) + "\n"
