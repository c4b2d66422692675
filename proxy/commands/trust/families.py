"""The environment variables that make each family of clients trust the sidecar, and the files that these name.

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
class TrustContext:
    """The folder of the files, the hosts that are covered, the proxy's URL, and the environment to change."""

    folder: Path  # holds our files
    names: frozenset[str]  # the hosts that we speak for
    environ: Mapping[str, str]
    proxy: str = ""  # "" where the user names it

    @property
    def bundle(self) -> Path:
        """The certificate bundle that most variables name."""
        return self.folder / "bundle.pem"

    @property
    def theirs(self) -> dict[str, str]:
        """The environment without what an outer `run` has set."""
        return {name: value for name, value in self.environ.items() if not value.startswith(f"{self.folder}/")}


def files(context: TrustContext, own: bytes) -> dict[Path, bytes]:
    """Returns the files that the variables name, by path; *own* is the authority's certificate as PEM."""
    roots, folder = ca_bundle(own, context.theirs, _values_of(_CA_CERTIFICATE, _users_wgetrc(context))), context.folder
    named = f'"{context.bundle}"'
    hosts = "".join(f"{name}\n" for name in sorted(context.names))
    return {
        context.bundle: roots,
        folder / "python" / "sitecustomize.py": (_HOOKS / "sitecustomize.py").read_bytes(),
        folder / "php" / "graph-sidecar.ini": f"curl.cainfo = {named}\nopenssl.cafile = {named}\n".encode(),
        folder / "ruby" / "find_proxy.rb": (_HOOKS / "find_proxy.rb").read_bytes(),
        folder / "ruby" / "hosts": hosts.encode(),
        folder / "truststore.p12": java_store(roots),
        folder / "wgetrc": _wgetrc(context),
    }


def variables(context: TrustContext) -> dict[str, str]:
    """Returns the variables that route a program's calls through the proxy and make it trust the authority."""
    return {**trusting(context), **proxies(context.proxy, context.names, context.environ)}


def trusting(context: TrustContext) -> dict[str, str]:
    """Returns the variables that make programs trust the authority; `files` returns the files that they name."""
    listed = {name: value for name, made in _LISTS.items() if (value := made(context, context.environ.get(name)))}
    return {**dict.fromkeys(BUNDLES, str(context.bundle)), **listed}


def _python(context: TrustContext, given: str | None) -> str:
    """Returns PYTHONPATH: Python loads `sitecustomize` from its first folder; the sidecar's then loads the next one."""
    ours = str(context.folder / "python")
    return ":".join([ours, *_others(given, ":", ours)])


def _php(context: TrustContext, given: str | None) -> str:
    """Returns PHP_INI_SCAN_DIR: PHP reads these folders in order; an empty name stands for its built-in folder."""
    ours = str(context.folder / "php")
    if given is None:
        return f":{ours}"
    return ":".join([*(each for each in given.split(":") if each != ours), ours]) if given else ours


def _ruby(context: TrustContext, given: str | None) -> str:
    """Returns RUBYOPT; Ruby splits it at blanks without quoting, so a folder with a blank cannot be named."""
    ours = f"-r{context.folder / 'ruby' / 'find_proxy.rb'}"
    return " ".join([*_others(given, " ", ours), ours]) if len(ours.split()) == 1 else ""


def _java(context: TrustContext, given: str | None) -> str:
    """Returns JAVA_TOOL_OPTIONS; of equal options Java uses the last."""
    store = f"-Djavax.net.ssl.trustStore={context.folder / 'truststore.p12'}"
    ours = [store, "-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword="]
    if context.proxy:
        ours += java_options(context.proxy, context.names, context.environ)
    text = " ".join(f'"{option}"' if re.search(r"\s", option) else option for option in ours)
    return f"{(given or '').replace(text, '').strip()} {text}".strip()


def _wget(context: TrustContext, given: str | None) -> str:
    """Returns WGETRC: Wget reads one settings file, so the sidecar's begins with the user's settings."""
    ours = str(context.folder / "wgetrc")
    return ours if context.proxy or given == ours or not _users_wgetrc(context) else ""


def _others(given: str | None, separator: str, ours: str) -> list[str]:
    return [each for each in (given or "").split(separator) if each and each != ours]


def _wgetrc(context: TrustContext) -> bytes:
    """Returns the settings for Wget; under `run` with the user's own before them."""
    lines = [_users_wgetrc(context) if context.proxy else b"", b"ca_certificate = %s" % str(context.bundle).encode()]
    if context.proxy:
        given = ",".join(_values_of(_NO_PROXY, lines[0]))
        without = exceptions(
            {**context.environ, "NO_PROXY": f"{context.environ.get('NO_PROXY', '')},{given}"}, context.names
        )
        lines += [b"use_proxy = on", b"https_proxy = %s" % context.proxy.encode()]
        lines += [b"no_proxy =", b"no_proxy = %s" % ",".join(without).encode()]  # the first empties the list
    return b"\n".join([*filter(None, lines), b""])


def _values_of(setting: re.Pattern[str], wgetrc: bytes) -> list[str]:
    return setting.findall(wgetrc.decode(errors="replace"))


def _users_wgetrc(context: TrustContext) -> bytes:
    given = context.theirs.get("WGETRC") or f"{context.environ.get('HOME', '')}/.wgetrc"
    try:
        return Path(given).read_bytes()
    except OSError:
        return b""


_LISTS: dict[str, Callable[[TrustContext, str | None], str]] = {
    "PYTHONPATH": _python,
    "PHP_INI_SCAN_DIR": _php,
    "RUBYOPT": _ruby,
    "JAVA_TOOL_OPTIONS": _java,
    "WGETRC": _wget,
}
"""The variables that extend their old value, each with the function that does it; "" leaves the variable as it is."""
