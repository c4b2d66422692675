"""What each kind of program reads to find whom it trusts: a table of variables, and the files that these name.

A variable that holds a list keeps what the user has in it; ours comes last, or first where the first wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.commands.trust.proxies import exceptions, java_options, proxies
from proxy.commands.trust.roots import BUNDLES, ca_bundle, java_store

_NO_PROXY, _CA_CERTIFICATE = [
    re.compile(rf"^\s*{name}\s*=\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
    for name in ("no[-_]?proxy", "ca[-_]?certificate")
]
"""In Wget's file of settings."""
_HOOKS = Path(__file__).parent / "hooks"


@dataclass(frozen=True, slots=True)
class Told:
    """Whom the programs are told of, and what their environment held before."""

    folder: Path  # holds our files
    names: frozenset[str]  # the hosts that we speak for
    environ: Mapping[str, str]
    proxy: str = ""  # "" where the user names it

    @property
    def bundle(self) -> Path:
        """The file of certificates that most variables name."""
        return self.folder / "bundle.pem"

    @property
    def theirs(self) -> dict[str, str]:
        """The environment without what it had from us before."""
        return {name: value for name, value in self.environ.items() if not value.startswith(f"{self.folder}/")}


def files(told: Told, own: bytes) -> dict[Path, bytes]:
    """The files that the variables name, when *own* is our authority."""
    roots, folder = ca_bundle(own, told.theirs, _named(_CA_CERTIFICATE, _users_wgetrc(told))), told.folder
    named = f'"{told.bundle}"'
    hosts = "".join(f"{name}\n" for name in sorted(told.names))
    return {
        told.bundle: roots,
        folder / "python" / "sitecustomize.py": (_HOOKS / "sitecustomize.py").read_bytes(),
        folder / "php" / "graph-sidecar.ini": f"curl.cainfo = {named}\nopenssl.cafile = {named}\n".encode(),
        folder / "ruby" / "find_proxy.rb": (_HOOKS / "find_proxy.rb").read_bytes(),
        folder / "ruby" / "hosts": hosts.encode(),
        folder / "truststore.p12": java_store(roots),
        folder / "wgetrc": _wgetrc(told),
    }


def variables(told: Told) -> dict[str, str]:
    """All that leads a program's calls through `told.proxy` and makes it trust what it meets there."""
    return {**trusting(told), **proxies(told.proxy, told.names, told.environ)}


def trusting(told: Told) -> dict[str, str]:
    """The variables by which programs trust our authority; the files that they name are those of `files`."""
    listed = {name: value for name, made in _LISTS.items() if (value := made(told, told.environ.get(name)))}
    return {**dict.fromkeys(BUNDLES, str(told.bundle)), **listed}


def _python(told: Told, given: str | None) -> str:
    """Python loads `sitecustomize` from the first of these folders; ours then loads the next."""
    ours = str(told.folder / "python")
    return ":".join([ours, *_others(given, ":", ours)])


def _php(told: Told, given: str | None) -> str:
    """PHP reads the settings of these folders in order; an empty name stands for the folder that it has by itself."""
    ours = str(told.folder / "php")
    if given is None:
        return f":{ours}"
    return ":".join([*(each for each in given.split(":") if each != ours), ours]) if given else ours


def _ruby(told: Told, given: str | None) -> str:
    """Ruby's options are cut at blanks and know no quotes, so a folder with a blank cannot be named."""
    ours = f"-r{told.folder / 'ruby' / 'find_proxy.rb'}"
    return " ".join([*_others(given, " ", ours), ours]) if len(ours.split()) == 1 else ""


def _java(told: Told, given: str | None) -> str:
    """The last of equal options wins."""
    store = f"-Djavax.net.ssl.trustStore={told.folder / 'truststore.p12'}"
    ours = [store, "-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword="]
    if told.proxy:
        ours += java_options(told.proxy, told.names, told.environ)
    text = " ".join(f'"{option}"' if re.search(r"\s", option) else option for option in ours)
    return f"{(given or '').replace(text, '').strip()} {text}".strip()


def _wget(told: Told, given: str | None) -> str:
    """Wget reads one file of settings: ours begins with the user's, and is no place to keep these for long."""
    ours = str(told.folder / "wgetrc")
    return ours if told.proxy or given == ours or not _users_wgetrc(told) else ""


def _others(given: str | None, separator: str, ours: str) -> list[str]:
    return [each for each in (given or "").split(separator) if each and each != ours]


def _wgetrc(told: Told) -> bytes:
    """Settings for Wget; under `run` with the user's own before them."""
    lines = [_users_wgetrc(told) if told.proxy else b"", b"ca_certificate = %s" % str(told.bundle).encode()]
    if told.proxy:
        given = ",".join(_named(_NO_PROXY, lines[0]))
        without = exceptions({**told.environ, "NO_PROXY": f"{told.environ.get('NO_PROXY', '')},{given}"}, told.names)
        lines += [b"use_proxy = on", b"https_proxy = %s" % told.proxy.encode()]
        lines += [b"no_proxy =", b"no_proxy = %s" % ",".join(without).encode()]  # the first empties the list
    return b"\n".join([*filter(None, lines), b""])


def _named(setting: re.Pattern[str], wgetrc: bytes) -> list[str]:
    return setting.findall(wgetrc.decode(errors="replace"))


def _users_wgetrc(told: Told) -> bytes:
    given = told.theirs.get("WGETRC") or f"{told.environ.get('HOME', '')}/.wgetrc"
    try:
        return Path(given).read_bytes()
    except OSError:
        return b""


_LISTS: dict[str, Callable[[Told, str | None], str]] = {
    "PYTHONPATH": _python,
    "PHP_INI_SCAN_DIR": _php,
    "RUBYOPT": _ruby,
    "JAVA_TOOL_OPTIONS": _java,
    "WGETRC": _wget,
}
"""The variables that are made of what they held, each with who makes it; "" leaves one as it is."""
