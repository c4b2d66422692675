"""Makes the certificates of transparent mode (RFC 5280): an authority limited to its hosts, and leaf certificates.

The authority's name constraints are critical, and name forms of which it has no host are excluded: a thief of its key
can impersonate only the hosts that it was made for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LASTS = timedelta(days=1825)
LEAF_LASTS = timedelta(days=3)
BACK_DATED = timedelta(days=1)
"""Certificates are valid from a day before now: clocks of pods, suspended virtual machines and hosts differ."""

_EVERY_IP = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def public_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """The certificate and its unencrypted key as PEM, for the owner alone."""
        return self.public_pem + self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_authority(hosts: Iterable[str], now: datetime) -> Pair:
    """A new authority that can sign for *hosts* only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "graph-sidecar"),
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"graph-sidecar {now:%Y-%m-%d} {x509.random_serial_number():x}"[:40]
            ),
        ]
    )
    subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), now - BACK_DATED, now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_constraints(hosts), critical=True)
        .add_extension(subject_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_id), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def make_leaf(host: str, issuer: Pair, now: datetime) -> Pair:
    """A leaf certificate for *host*, valid for LEAF_LASTS."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(now + LEAF_LASTS, issuer.certificate.not_valid_after_utc)
    certificate = (
        _builder(_subject_name(host), issuer.certificate.subject, key.public_key(), now - BACK_DATED, ends)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=not _fits_a_name(host))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def hosts_of(certificate: x509.Certificate) -> frozenset[str]:
    """The hosts that the authority with *certificate* may sign for."""
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return frozenset(_constraint_host(permitted) for permitted in constraints.permitted_subtrees or ())


def ca_problem(authority: Pair, hosts: frozenset[str], now: datetime) -> str:
    """Why clients would not accept *authority* for *hosts* now, "" if they would."""
    certificate = authority.certificate
    missing = sorted(hosts - hosts_of(certificate))
    if missing:
        return f"the authority was not made for {', '.join(missing)}"
    if now < certificate.not_valid_before_utc:
        return f"the authority is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return "" if now < certificate.not_valid_after_utc else "the authority has expired"


def read_certificates(pem: bytes) -> Pair:
    """The authority in *pem*. Raises ValueError for anything else."""
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("certificate and key do not belong together")
    try:
        hosts_of(certificate)
    except x509.ExtensionNotFound:
        raise ValueError("it has no name constraints, so it could sign for any host") from None
    return Pair(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins.astimezone(UTC))
        .not_valid_after(ends.astimezone(UTC))
    )


def _constraints(hosts: Iterable[str]) -> x509.NameConstraints:
    permitted = [_subtree(host) for host in sorted(set(hosts))]
    has_ip = {each.value.version for each in permitted if isinstance(each, x509.IPAddress)}
    closed = [x509.IPAddress(every) for every in _EVERY_IP if not has_ip]
    return x509.NameConstraints(permitted, closed or None)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issuer: Pair) -> x509.AuthorityKeyIdentifier:
    known = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _subject_name(host: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)] if _fits_a_name(host) else [])


def _fits_a_name(host: str) -> bool:
    """True if *host* can be a common name: at most 64 characters, and no address, which OpenSSL takes as a name."""
    return len(host) <= 64 and _ip(host) is None


def _subtree(host: str) -> x509.GeneralName:
    ip = _ip(host)
    return x509.IPAddress(ipaddress.ip_network(ip)) if ip else x509.DNSName(host)


def _general_name(host: str) -> x509.GeneralName:
    ip = _ip(host)
    return x509.IPAddress(ip) if ip else x509.DNSName(host)


def _constraint_host(name: x509.GeneralName) -> str:
    return str(name.value).partition("/")[0]  # a network of one address


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
