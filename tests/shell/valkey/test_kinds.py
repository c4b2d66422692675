"""The ways to reach a store: a socket, TLS, a user with few rights, Sentinels, and servers that are refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.exceptions import ResponseError

from proxy.core.shared.location import read_location
from proxy.core.shared.wire import Wire
from proxy.shell.valkey import scripts
from proxy.shell.valkey.fleet import Fleet, too_old
from proxy.shell.valkey.link import Away, Dialer
from tests.shell.valkey.servers import free_port, guarded, program, serving

DOCS = Path(__file__).parents[3] / "docs" / "fleet.md"


async def pong(dialer: Dialer) -> Any:
    """What the store there says."""
    link = await dialer.dial()
    try:
        (reply,) = await link.exchange([("PING",)])
        return reply
    finally:
        await link.close()


def dialer(url: str, user: str = "", password: str = "", ca_file: str = "") -> Dialer:
    """What connects to *url*."""
    return Dialer(read_location(url), lambda: (user, password), ca_file)


async def test_a_socket(tmp_path: Path) -> None:
    """A store on the same machine needs no port."""
    with serving(tmp_path, "--unixsocket", str(tmp_path / "s")):
        assert await pong(dialer(f"unix://{tmp_path}/s")) == b"PONG"


async def test_a_database_of_its_own(tmp_path: Path) -> None:
    """Two installations need two."""
    with serving(tmp_path) as server:
        link = await dialer(f"{server.url}/3").dial()
        await link.exchange([("SET", "a", "1")])
        await link.close()
        assert server.ask("EXISTS", "a") == 0


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server with TLS, and the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = tmp_path / "cert", tmp_path / "secret"
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(secret))
    try:
        with serving(tmp_path, *options, "--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no"):
            yield port, cert
    except TimeoutError:
        pytest.skip(f"{program()} was built without TLS")


async def test_tls_with_a_certificate_that_is_vouched_for_alone(certified: tuple[int, Path]) -> None:
    """And for the name that was asked for."""
    port, cert = certified
    assert await pong(dialer(f"valkeys://localhost:{port}", ca_file=str(cert))) == b"PONG"
    with pytest.raises(Away):
        await pong(dialer(f"valkeys://localhost:{port}"))
    with pytest.raises(Away):
        await pong(dialer(f"valkeys://127.0.0.1:{port}", ca_file=str(cert)))


async def test_the_user_of_the_docs_may_do_all_that_is_needed(tmp_path: Path) -> None:
    """The line in docs/fleet.md is enough for entries, leases, limits and the log; and not for what is not ours."""
    line = re.search(r"ACL SETUSER graph-sidecar on >PASSWORD (.*)", DOCS.read_text())
    assert line is not None
    with serving(tmp_path) as server:
        assert server.ask("ACL", "SETUSER", "graph-sidecar", "on", ">word", *line[1].split()) == b"OK"
        used = set(re.findall(r"\(\s*b\"([A-Z]+)\"", (DOCS.parents[1] / "proxy/shell/valkey/leases.py").read_text()))
        for module in ("entries", "events", "fleet", "limits", "link", "shared", "tail"):
            source = (DOCS.parents[1] / f"proxy/shell/valkey/{module}.py").read_text()
            used |= set(re.findall(r"\(b\"([A-Z]+)\"", source))
        source = (DOCS.parents[1] / "proxy/shell/valkey/scripts.py").read_text()
        used |= set(re.findall(r"redis\.call\('([A-Z]+)'", source)) | set(re.findall(r"\(b\"([A-Z]+)\"", source))
        granted = {each.lstrip("+").partition("|")[0].upper() for each in line[1].split() if each.startswith("+")}
        assert used - {"BLOCK", "STREAMS"} <= granted
        assert await pong(dialer(server.url, "graph-sidecar", "word")) == b"PONG"
        with pytest.raises(Away, match="refuses"):
            await pong(dialer(server.url, "graph-sidecar", "another"))
        link = await dialer(server.url, "graph-sidecar", "word").dial()
        try:
            one, two, three, log = (Wire(b"m" * 32).names.prefix + each for each in (b"1", b"2", b"3", b"w"))
            replies = await link.exchange(
                [
                    scripts.beat((b"gs1:secret", one, two, log), b"secret", b"replica", 60_000, 10),
                    scripts.look_or_lead(one, three, mine=b"mine", ms=60_000),
                    scripts.look_or_lead(log, three, mine=b"mine", ms=60_000),
                    scripts.land(
                        three, one, two, mine=b"mine", entry_value=(b"value", 9), outcome_value=(b"outcome", 9)
                    ),
                    scripts.take_over(three, two, theirs=b"theirs", mine=b"mine", ms=60_000),
                    scripts.release(three, b"mine"),
                    scripts.pace(three, 100),
                ]
            )
        finally:
            await link.close()
        assert [str(each) for each in replies if isinstance(each, ResponseError)] == []
        denied = server.ask("ACL", "LOG")
        assert isinstance(denied, list)
        assert {each[each.index(b"reason") + 1] for each in denied} == {b"auth"}  # of the wrong password


async def test_a_password_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """And read again at the next attempt."""

    def missing() -> tuple[str, str]:
        return "", (tmp_path / "missing").read_text()

    with pytest.raises(Away, match="cannot be read"):
        await Dialer(read_location("redis://127.0.0.1:1"), missing).dial()


@pytest.mark.parametrize(
    "told, is_refused",
    [
        (b"redis_version:6.2.14\r\n", True),
        (b"redis_version:7.0.15\r\n", False),
        (b"redis_version:8.2.1\r\n", False),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5\r\n", False),
        (b"something_else:1\r\n", False),
    ],
)
def test_an_old_server_is_told_and_not_used(told: bytes, is_refused: bool) -> None:  # noqa: FBT001 - a row
    """`SET NX GET` came with Redis 7.0."""
    assert bool(too_old(told)) is is_refused


async def test_sentinels_lead_to_the_primary_and_to_the_next_one(tmp_path: Path) -> None:
    """After a failover the next connection is to the new primary; a replica is not used."""
    with guarded(tmp_path) as (url, one, two):
        there = dialer(url)
        assert await port_of(there) == one.port
        one.signal(signal.SIGKILL)
        async with asyncio.timeout(30):
            while await port_of(there) != two.port:  # noqa: ASYNC110 - the Sentinel's own time
                await asyncio.sleep(0.1)


async def port_of(there: Dialer) -> int:
    """The port of the primary that is reached; 0 where none is."""
    try:
        link = await there.dial()
        try:
            told, _ = await link.exchange([("CONFIG", "GET", "port"), ("ROLE",)])
            return int(told[1])
        finally:
            await link.close()
    except Away:
        return 0


async def test_a_replica_is_not_used(tmp_path: Path) -> None:
    """It takes no writes."""
    with serving(tmp_path) as server:
        server.ask("REPLICAOF", "127.0.0.1", "1")
        fleet = Fleet(dialer(server.url), Wire(b"m" * 32), 0.5, goes_by_clock=False)
        link = await dialer(server.url).dial()
        with pytest.raises(Away):
            await fleet._greet(link)
        await link.close()
