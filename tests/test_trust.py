"""What a program is told so that its calls to Graph come here, and no other call suffers."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy import trust
from proxy.shell import certificates

GRAPH = frozenset({"graph.facebook.com", "graph-video.facebook.com"})
PROXY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def own() -> bytes:
    """An authority of ours."""
    return certificates.authority(GRAPH, datetime.now(UTC)).public_pem


@pytest.fixture(scope="module")
def corporate() -> bytes:
    """One that the user trusts besides."""
    return certificates.authority({"intranet.test"}, datetime.now(UTC)).public_pem


def loaded(pem: bytes) -> int:
    """How many authorities OpenSSL finds in *pem*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem.decode())
    return len(context.get_ca_certs())


def test_a_bundle_holds_the_systems_roots_and_ours(own: bytes) -> None:
    """Clients take it in the place of their own list, so other hosts must still be trusted."""
    made = trust.bundle(own, {})
    assert own.strip() in made
    assert loaded(made) > 20


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"])
def test_what_the_user_named_stays_trusted(tmp_path: Path, own: bytes, corporate: bytes, name: str) -> None:
    """A bundle in the user's environment is in ours, whether file or folder, each certificate once."""
    (tmp_path / "corporate.pem").write_bytes(b"# ours\n" + corporate)
    for given in (tmp_path, tmp_path / "corporate.pem"):
        made = trust.bundle(own, {name: str(given)})
        assert made.count(corporate.strip()) == 1
        assert loaded(made) == loaded(trust.bundle(own, {})) + 1


def test_what_cannot_be_read_is_left_out(tmp_path: Path, own: bytes) -> None:
    """A variable that names nothing is no reason to fail."""
    assert trust.bundle(own, {"SSL_CERT_FILE": str(tmp_path / "none")}) == trust.bundle(own, {})


def test_without_a_systems_list_there_is_mozillas(own: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container may have none."""
    monkeypatch.setattr(trust, "_size", lambda _: 0)
    assert loaded(trust.bundle(own, {})) > 20


def test_the_variables_lead_graphs_calls_here() -> None:
    """Both spellings of the proxy's, a bundle for each kind of client, and plain HTTP is left alone."""
    told = trust.variables(Path("/b.pem"), PROXY, GRAPH, {"HTTP_PROXY": "http://other"})
    assert told["HTTPS_PROXY"] == told["https_proxy"] == PROXY
    assert {told[name] for name in (*trust.CA_VARIABLES, "CURL_CA_BUNDLE")} == {"/b.pem"}
    assert told["NODE_USE_ENV_PROXY"] == "1"
    assert not {"HTTP_PROXY", "http_proxy", "ALL_PROXY"} & told.keys()


@pytest.mark.parametrize(
    "given, kept",
    [
        ("", ""),
        ("*", ""),
        ("intranet.test,10.0.0.0/8", "intranet.test,10.0.0.0/8,"),
        (".facebook.com, intranet.test", "intranet.test,"),
        ("facebook.com", ""),
        ("graph.facebook.com:443,www.facebook.com", "www.facebook.com,"),
        ("*.facebook.com,book.com", "book.com,"),
    ],
)
def test_no_exception_leads_around_the_sidecar(given: str, kept: str) -> None:
    """The user's exceptions hold, but for those that cover Graph."""
    for name in ("NO_PROXY", "no_proxy"):
        told = trust.variables(Path("/b.pem"), PROXY, GRAPH, {name: given})
        assert told["NO_PROXY"] == told["no_proxy"] == f"{kept}localhost,127.0.0.1"


def test_another_proxy_is_told_of() -> None:
    """Its name alone: the value may hold a password."""
    assert trust.replaced({"https_proxy": "http://u:p@corp:3128", "HTTP_PROXY": "x"}) == ["https_proxy"]
