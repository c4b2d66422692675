"""The authority of transparent mode, judged by OpenSSL as a client uses it."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.core.http.errors import Uncertified
from proxy.shell.intercept import ca, x509
from proxy.shell.intercept.ca import Authority, AuthorityError, LeafContext, ca_file

GRAPH, OTHER = "graph.facebook.com", "evil.example"
CONSTRAINED = r"(permitted|excluded) subtree violation"
HOSTS = frozenset({GRAPH, "graph-video.facebook.com"})


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def trusting(folder: Path) -> ssl.SSLContext:
    """A client that trusts the authority in *folder* and nobody else, as strictly as OpenSSL can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file(folder))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's end of a connection to *server*, which it takes for *name*. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours


def forged(folder: Path, host: str) -> LeafContext:
    """A leaf for *host* as a thief of the key would make it."""
    pair = ca.load_ca(folder)
    assert pair is not None
    return ca.leaf_context(host, x509.make_leaf(host, pair, datetime.now(UTC)))


async def test_a_leaf_is_trusted_for_its_host(tmp_path: Path) -> None:
    """A strict client takes us for Graph, and hears that we speak http/1.1 alone."""
    client = trusting_after(tmp_path)
    client.set_alpn_protocols(["h2", "http/1.1"])
    leaf = await Authority(tmp_path, HOSTS).leaf(GRAPH)
    assert shake_hands(client, leaf, GRAPH).selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(client, leaf, "graph-video.facebook.com")


def trusting_after(folder: Path) -> ssl.SSLContext:
    """A client that trusts a new authority in *folder*."""
    ca.make_ca(folder, HOSTS, datetime.now(UTC))
    return trusting(folder)


@pytest.mark.parametrize("host", [OTHER, "facebook.com", "www.facebook.com", "127.0.0.1", "::1"])
def test_the_stolen_key_speaks_for_nobody_else(tmp_path: Path, host: str) -> None:
    """A leaf for another host, name or address, under this very authority is refused: its name constraints say so."""
    client = trusting_after(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=CONSTRAINED):
        shake_hands(client, forged(tmp_path, host), host)


def test_an_address_can_be_a_host_of_graphs(tmp_path: Path) -> None:
    """An origin may be an address; then that one is permitted, and no other."""
    ca.make_ca(tmp_path, HOSTS | {"10.0.0.7"}, datetime.now(UTC))
    client = trusting(tmp_path)
    assert shake_hands(client, forged(tmp_path, "10.0.0.7"), "10.0.0.7").version()
    for other in ("10.0.0.8", "::1"):
        with pytest.raises(ssl.SSLCertVerificationError, match=CONSTRAINED):
            shake_hands(client, forged(tmp_path, other), other)


def test_the_constraints_are_critical_and_the_chain_is_short(tmp_path: Path) -> None:
    """A client that does not know name constraints must refuse the authority (RFC 5280 section 4.2.1.10)."""
    made = ca.make_ca(tmp_path, HOSTS, datetime.now(UTC)).certificate.extensions
    found = {each.oid._name: each for each in made}
    assert found["nameConstraints"].critical
    assert found["basicConstraints"].critical
    assert found["basicConstraints"].value.path_length == 0
    assert found["keyUsage"].critical


def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600, and one that others can read is not taken."""
    ca.make_ca(tmp_path, HOSTS, datetime.now(UTC))
    assert stat.S_IMODE(ca_file(tmp_path).stat().st_mode) == 0o600
    ca_file(tmp_path).chmod(0o640)
    with pytest.raises(AuthorityError, match="0600"):
        ca.load_ca(tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"])
def test_what_is_no_authority_is_told(tmp_path: Path, content: bytes) -> None:
    """Its place and the way out are named."""
    ca_file(tmp_path).write_bytes(content)
    ca_file(tmp_path).chmod(0o600)
    with pytest.raises(AuthorityError, match="ca init --force"):
        ca.load_ca(tmp_path)


def test_an_authority_over_everybody_is_refused(tmp_path: Path) -> None:
    """Somebody's own one without name constraints is too dangerous to sign with."""
    pair = x509.make_authority(HOSTS, datetime.now(UTC))
    leaf = x509.make_leaf(GRAPH, pair, datetime.now(UTC))
    ca_file(tmp_path).write_bytes(leaf.pem)
    ca_file(tmp_path).chmod(0o600)
    with pytest.raises(AuthorityError, match="no name constraints"):
        ca.load_ca(tmp_path)


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    """A file of two halves is told, not used."""
    one, other = (x509.make_authority(HOSTS, datetime.now(UTC)) for _ in range(2))
    ca_file(tmp_path).write_bytes(one.public_pem + other.pem.removeprefix(other.public_pem))
    ca_file(tmp_path).chmod(0o600)
    with pytest.raises(AuthorityError, match="belong together"):
        ca.load_ca(tmp_path)


def test_of_two_that_make_one_the_first_wins(tmp_path: Path) -> None:
    """Programs told of one authority do not lose it to another start; `anew` is meant."""
    first = ca.make_ca(tmp_path, HOSTS, datetime.now(UTC))
    assert ca.make_ca(tmp_path, HOSTS, datetime.now(UTC)).certificate == first.certificate
    assert ca.make_ca(tmp_path, HOSTS, datetime.now(UTC), replace=True).certificate != first.certificate


async def test_leaves_are_kept_and_renewed_in_time(tmp_path: Path) -> None:
    """One is minted when first wanted, and its successor before it ends; clocks that are slow trust it, too."""
    clock = Clock()
    ours = Authority(tmp_path, HOSTS, clock)
    assert ours.cached_leaf(GRAPH) is None
    first = await ours.leaf(GRAPH)
    assert await ours.leaf(GRAPH) is ours.cached_leaf(GRAPH) is first
    clock.now = first.ends - timedelta(hours=25)
    assert await ours.leaf(GRAPH) is first
    clock.now = first.ends - timedelta(hours=23)
    assert await ours.leaf(GRAPH) is not first
    clock.now += timedelta(days=30)
    assert ours.cached_leaf(GRAPH) is None


async def test_a_leaf_of_a_clock_that_was_ahead_is_not_used(tmp_path: Path) -> None:
    """When the clock is set back by days, what was minted meanwhile is not good yet: another leaf is minted."""
    ca.make_ca(tmp_path, HOSTS, datetime.now(UTC))
    clock = Clock()
    ours = Authority(tmp_path, HOSTS, clock)
    clock.now += timedelta(days=10)
    early = await ours.leaf(GRAPH)
    clock.now -= timedelta(days=10)
    assert ours.cached_leaf(GRAPH) is None
    assert (await ours.leaf(GRAPH)).begins < clock.now < early.begins


async def test_an_authority_of_a_clock_that_was_ahead_is_told(tmp_path: Path) -> None:
    """An authority that no client takes yet is named with the day from which it is good, and the way out."""
    ca.make_ca(tmp_path, HOSTS, datetime.now(UTC) + timedelta(days=10))
    with pytest.raises(Uncertified, match=r"not valid before .* makes a new one"):
        await Authority(tmp_path, HOSTS).leaf(GRAPH)


def test_clocks_may_differ(tmp_path: Path) -> None:
    """Authority and leaf hold for a client whose clock is a day behind."""
    now = datetime.now(UTC)
    pair = ca.make_ca(tmp_path, HOSTS, now)
    for each in (pair, x509.make_leaf(GRAPH, pair, now)):
        assert each.certificate.not_valid_before_utc <= now - timedelta(hours=23)
    assert x509.make_leaf(GRAPH, pair, now).certificate.not_valid_after_utc - now <= timedelta(days=7)


async def test_no_leaf_outlives_or_oversteps_its_authority(tmp_path: Path) -> None:
    """A host that was set later, and an authority that has ended, are told with the way out."""
    clock = Clock()
    ours = Authority(tmp_path, HOSTS, clock)
    await ours.leaf(GRAPH)
    with pytest.raises(Uncertified, match=r"was not made for evil\.example; .*ca init --force"):
        await Authority(tmp_path, HOSTS | {OTHER}, clock).leaf(OTHER)
    clock.now += timedelta(days=2000)
    with pytest.raises(Uncertified, match=r"expired; .*ca init --force"):
        await ours.leaf(GRAPH)


async def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """Without a place for the authority there is no leaf, and the reason is said."""
    (tmp_path / "file").touch()
    with pytest.raises(Uncertified, match="no certificate can be made for"):
        await Authority(tmp_path / "file" / "ca", HOSTS).leaf(GRAPH)
