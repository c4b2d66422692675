"""Makes the certificate bundle: the roots that a program trusts anyway, and the sidecar's authority."""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs12
from cryptography.utils import CryptographyDeprecationWarning

BUNDLES = (
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "PERL_LWP_SSL_CA_FILE",
)
"""Variables that name a bundle. Their readers: requests, OpenSSL's defaults, Node, curl, Perl's LWP."""

_SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s[^-]+-----END CERTIFICATE-----")
_JAVA_OPTION = re.compile(r"""-D(javax\.net\.ssl\.trustStore(?:Password)?)=("[^"]*"|'[^']*'|\S*)""")


def ca_bundle(own: bytes, environ: Mapping[str, str], also: Iterable[str] = ()) -> bytes:
    """Returns as PEM the roots that a program trusts anyway, those in *also*, and the sidecar's *own* authority."""
    given = [*(environ[name] for name in (*BUNDLES, "HTTPS_CA_FILE") if environ.get(name)), *also]
    found = [block for path in (_roots(), *map(Path, given)) for block in _certificates(path)]
    return b"\n".join([*dict.fromkeys([*found, *_of_java(environ), *_CERTIFICATE.findall(own)]), b""])


def unreadable_stores(environ: Mapping[str, str]) -> list[str]:
    """Returns the trust stores of the user that cannot be read, so that the bundle lacks their roots."""
    return ["the trust store that JAVA_TOOL_OPTIONS names"] if _java_store(environ) and not _of_java(environ) else []


def java_store(pem: bytes) -> bytes:
    """Returns the certificates in *pem* as a trust store for Java: PKCS #12 without a password."""
    with _old_roots():
        read = [pkcs12.PKCS12Certificate(each, b"%d" % number) for number, each in enumerate(_readable(pem))]
        return pkcs12.serialize_java_truststore(read, NoEncryption())


def _readable(pem: bytes) -> Iterator[x509.Certificate]:
    """Yields the valid certificates in *pem*; a system's list may hold invalid ones."""
    for block in _CERTIFICATE.findall(pem):
        try:
            yield x509.load_pem_x509_certificate(block)
        except ValueError:
            continue


@contextmanager
def _old_roots() -> Iterator[None]:
    """Suppress warnings about old roots whose serial numbers break today's rules; systems trust some of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _of_java(environ: Mapping[str, str]) -> list[bytes]:
    """Returns the certificates in the trust store that JAVA_TOOL_OPTIONS names, if it is PKCS #12."""
    options = _java_store(environ)
    try:
        content = Path(options["javax.net.ssl.trustStore"]).read_bytes()
        with _old_roots():
            store = pkcs12.load_pkcs12(content, options.get("javax.net.ssl.trustStorePassword", "").encode())
    except (KeyError, OSError, ValueError):
        return []
    return [each.certificate.public_bytes(Encoding.PEM).strip() for each in store.additional_certs]


def _java_store(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns file and password of the trust store in JAVA_TOOL_OPTIONS."""
    found: Iterable[tuple[str, str]] = _JAVA_OPTION.findall(environ.get("JAVA_TOOL_OPTIONS", ""))
    return {name: value.strip("\"'") for name, value in found}


def _roots() -> Path:
    """Returns the file of the system's certificates, or of Mozilla's list if the system has none."""
    paths = ssl.get_default_verify_paths()
    candidates = (paths.openssl_cafile, f"{paths.openssl_capath}/ca-certificates.crt", *_SYSTEM)
    return next((path for path in map(Path, candidates) if _file_size(path)), Path(certifi.where()))


def _certificates(path: Path) -> Iterator[bytes]:
    """Yields the certificates in a file or folder; an unreadable file holds none, as it does for clients."""
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield from _CERTIFICATE.findall(file.read_bytes())
    except OSError:
        return


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
