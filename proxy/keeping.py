"""`graph-sidecar ca`: makes the authority of transparent mode, and tells clients of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from proxy import app, trust
from proxy.settings import Settings
from proxy.shell import authority, certificates
from proxy.shell.authority import AuthorityError
from proxy.shell.certificates import Pair

Environ = Mapping[str, str]


def init(settings: Settings, environ: Environ, force: bool) -> str:  # noqa: FBT001 - all actions look alike
    """Make an authority for the hosts that are set; one that serves them already is left alone."""
    del environ
    folder, hosts, now = settings.intercept.ca_dir, app.graph_hosts(settings), datetime.now(UTC)
    found = None if force else authority.load(folder)
    if found is None:
        found = authority.make(folder, hosts, now, anew=force)
    if why := certificates.unfit(found, hosts, now):
        raise AuthorityError(f"{folder}: {why}; --force makes a new one, which clients have to be told of")
    return _described(found, folder)


def show(settings: Settings, environ: Environ, force: bool) -> str:  # noqa: FBT001
    """The authority, for eyes and for trust stores."""
    del environ, force
    return _described(_known(settings), settings.intercept.ca_dir) + _known(settings).public_pem.decode()


def bundle(settings: Settings, environ: Environ, force: bool) -> str:  # noqa: FBT001
    """What a client takes in the place of its own list of roots."""
    del force
    return trust.bundle(_known(settings).public_pem, environ).decode()


def env(settings: Settings, environ: Environ, force: bool) -> str:  # noqa: FBT001
    """The variables, as a shell reads them; the bundle that they name lies beside the authority."""
    path = settings.intercept.ca_dir / "bundle.pem"
    given = {name: value for name, value in environ.items() if value != str(path)}
    authority.write(path, bundle(settings, given, force).encode())
    return "".join(f"export {name}={shlex.quote(str(path))}\n" for name in trust.CA_VARIABLES)


ACTIONS: dict[str, Callable[[Settings, Environ, bool], str]] = {
    "init": init,
    "show": show,
    "bundle": bundle,
    "env": env,
}


def _known(settings: Settings) -> Pair:
    found = authority.load(settings.intercept.ca_dir)
    if found is None:
        raise AuthorityError(f"{settings.intercept.ca_dir}: there is no authority; `graph-sidecar ca init` makes one")
    return found


def _described(pair: Pair, folder: Path) -> str:
    certificate = pair.certificate
    lines = [
        f"authority  {certificate.subject.rfc4514_string()}",
        f"in         {authority.file_in(folder)}",
        f"valid      {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}",
        f"SHA-256    {certificate.fingerprint(hashes.SHA256()).hex()}",
        "signs for  " + "\n           ".join(sorted(certificates.hosts_of(certificate))),
    ]
    return "\n".join(lines) + "\n"
