"""What a program must be told so that its calls to Graph come here: whom to trust, and which proxy to use.

Everything is a value: `proxy.cli` hands the environment in.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import certifi

from proxy.core.intercepting import split

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""Who reads them: requests (and what stands on it), OpenSSL's defaults with httpx and aiohttp, Node."""

_ALSO_CURL = (*CA_VARIABLES, "CURL_CA_BUNDLE")
_PROXIES = ("HTTPS_PROXY", "https_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_NODE_HEEDS_THEM = "NODE_USE_ENV_PROXY"  # Node 22.21, 24 and later, in fetch, http and https; earlier ones know it not
_LOCAL = ("localhost", "127.0.0.1")
_SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s[^-]+-----END CERTIFICATE-----")


def bundle(own: bytes, environ: Mapping[str, str]) -> bytes:
    """All that a program trusts without us, and our *own* authority: clients take a bundle in the place of theirs."""
    given = [environ[name] for name in _ALSO_CURL if environ.get(name)]
    found = [block for path in (_roots(), *map(Path, given)) for block in _certificates(path)]
    return b"\n".join([*dict.fromkeys([*found, *_CERTIFICATE.findall(own)]), b""])


def _roots() -> Path:
    """The system's certificates in one file, or else those that Mozilla lists."""
    paths = ssl.get_default_verify_paths()
    candidates = (paths.openssl_cafile, f"{paths.openssl_capath}/ca-certificates.crt", *_SYSTEM)
    return next((path for path in map(Path, candidates) if _size(path)), Path(certifi.where()))


def _certificates(path: Path) -> Iterator[bytes]:
    """Those in a file, or in the files of a folder; what cannot be read holds none, as for the clients."""
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield from _CERTIFICATE.findall(file.read_bytes())
    except OSError:
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def variables(bundle_at: Path, proxy: str, names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What leads a program's calls to *names* through *proxy*, which speaks for them under *bundle_at*.

    `HTTP_PROXY` is left alone: calls in clear to other hosts are none of ours.
    """
    exceptions = ",".join(_exceptions(environ, frozenset(names)))
    return {
        **dict.fromkeys(_ALSO_CURL, str(bundle_at)),
        **dict.fromkeys(_PROXIES, proxy),
        **dict.fromkeys(_EXCEPTIONS, exceptions),
        _NODE_HEEDS_THEM: "1",
    }


def replaced(environ: Mapping[str, str]) -> list[str]:
    """The variables of *environ* that name another proxy, which will not be used."""
    return [name for name in _PROXIES if environ.get(name)]


def _exceptions(environ: Mapping[str, str], names: frozenset[str]) -> list[str]:
    """Hosts that are asked without a proxy: as it was, but for Graph's."""
    given = ",".join(environ.get(name, "") for name in _EXCEPTIONS).split(",")
    kept = [each.strip() for each in given if each.strip() and not any(_covers(each, name) for name in names)]
    return list(dict.fromkeys([*kept, *_LOCAL]))


def _covers(exception: str, name: str) -> bool:
    suffix = exception.strip().lower().removeprefix("*").removeprefix(".")
    host = split(suffix, 443)[0] or suffix
    return not host or name == host or name.endswith(f".{host}")
