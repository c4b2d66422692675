"""What a program is told so that its calls to Graph come here, and no other call suffers."""

from __future__ import annotations

import shlex
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from proxy.commands import trust
from proxy.commands.trust import roots
from proxy.commands.trust.roots import BUNDLES
from proxy.shell.intercept import x509 as intercept_x509

GRAPH = frozenset({"graph.facebook.com", "graph-video.facebook.com"})
PROXY = "http://127.0.0.1:9"
TRUSTED = bytes.fromhex("060c6086480186f966adca7b0101")  # 2.16.840.1.113894.746875.1.1, Oracle's trustedKeyUsage


def of(environ: dict[str, str]) -> trust.TrustContext:
    """What a program with *environ* is told, in a folder that is named alone."""
    return trust.TrustContext(Path("/f"), GRAPH, environ, PROXY)


@pytest.fixture(scope="module")
def own() -> bytes:
    """An authority of ours."""
    return intercept_x509.make_authority(GRAPH, datetime.now(UTC)).public_pem


@pytest.fixture(scope="module")
def corporate() -> bytes:
    """One that the user trusts besides."""
    return intercept_x509.make_authority({"intranet.test"}, datetime.now(UTC)).public_pem


def loaded(pem: bytes) -> int:
    """How many authorities OpenSSL finds in *pem*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem.decode())
    return len(context.get_ca_certs())


def test_a_bundle_holds_the_systems_roots_and_ours(own: bytes) -> None:
    """Clients take it in the place of their own list, so other hosts must still be trusted."""
    made = trust.ca_bundle(own, {})
    assert own.strip() in made
    assert loaded(made) > 20


@pytest.mark.parametrize("name", [*BUNDLES, "HTTPS_CA_FILE"])
def test_what_the_user_named_stays_trusted(tmp_path: Path, own: bytes, corporate: bytes, name: str) -> None:
    """A bundle in the user's environment is in ours, whether file or folder, each certificate once."""
    (tmp_path / "corporate.pem").write_bytes(b"# ours\n" + corporate)
    for given in (tmp_path, tmp_path / "corporate.pem"):
        made = trust.ca_bundle(own, {name: str(given)})
        assert made.count(corporate.strip()) == 1
        assert loaded(made) == loaded(trust.ca_bundle(own, {})) + 1


def test_what_cannot_be_read_is_left_out(tmp_path: Path, own: bytes) -> None:
    """A variable that names nothing is no reason to fail."""
    assert trust.ca_bundle(own, {"SSL_CERT_FILE": str(tmp_path / "none")}) == trust.ca_bundle(own, {})


def test_without_a_systems_list_there_is_mozillas(own: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container may have none."""
    monkeypatch.setattr(roots, "_file_size", lambda _: 0)
    assert loaded(trust.ca_bundle(own, {})) > 20


def test_the_variables_lead_graphs_calls_here() -> None:
    """Both spellings of the proxy's, a bundle for each kind of client, and plain HTTP is left alone."""
    told = trust.variables(of({"HTTP_PROXY": "http://other"}))
    assert told["HTTPS_PROXY"] == told["https_proxy"] == PROXY
    assert {told[name] for name in BUNDLES} == {"/f/bundle.pem"}
    assert told["NODE_USE_ENV_PROXY"] == told["PERL_LWP_ENV_PROXY"] == "1"
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
        told = trust.variables(of({name: given}))
        assert told["NO_PROXY"] == told["no_proxy"] == f"{kept}localhost,127.0.0.1"


def test_another_proxy_is_told_of() -> None:
    """Its name alone: the value may hold a password."""
    assert trust.replaced({"https_proxy": "http://u:p@corp:3128", "HTTP_PROXY": "x"}) == ["https_proxy"]
    assert trust.replaced({"JAVA_TOOL_OPTIONS": "-Xmx1g -Dhttps.proxyHost=corp"}) == ["JAVA_TOOL_OPTIONS"]


JAVA = (
    "-Djavax.net.ssl.trustStore=/f/truststore.p12 -Djavax.net.ssl.trustStoreType=PKCS12 "
    "-Djavax.net.ssl.trustStorePassword= -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9 "
    "-Dhttp.nonProxyHosts=localhost|127.*|[::1]"
)


@pytest.mark.parametrize(
    "name, given, told",
    [
        ("PYTHONPATH", None, "/f/python"),
        ("PYTHONPATH", "/mine:/yours", "/f/python:/mine:/yours"),
        ("PHP_INI_SCAN_DIR", None, ":/f/php"),  # a name that is empty: PHP's own folder
        ("PHP_INI_SCAN_DIR", "", "/f/php"),  # no folder at all
        ("PHP_INI_SCAN_DIR", "/mine:", "/mine::/f/php"),
        ("RUBYOPT", None, "-r/f/ruby/find_proxy.rb"),
        ("RUBYOPT", "-W0  -rset", "-W0 -rset -r/f/ruby/find_proxy.rb"),
        ("JAVA_TOOL_OPTIONS", None, JAVA),
        ("JAVA_TOOL_OPTIONS", "-Xmx1g -Dx='a  b'", f"-Xmx1g -Dx='a  b' {JAVA}"),  # the last of two equal ones wins
        ("WGETRC", "/mine/wgetrc", "/f/wgetrc"),
    ],
)
def test_a_list_keeps_what_the_user_has_in_it(name: str, given: str | None, told: str) -> None:
    """Ours comes where it wins, and once, however often a shell takes it."""
    assert trust.variables(of({} if given is None else {name: given}))[name] == told
    assert trust.variables(of({name: told})).get(name) == told


def test_java_asks_the_users_exceptions_without_a_proxy() -> None:
    """A host and all below it, in Java's way of writing."""
    own = "-Dhttp.nonProxyHosts='10.*|*.facebook.com|*'"
    told = trust.variables(of({"NO_PROXY": ".intranet.test,*", "JAVA_TOOL_OPTIONS": own}))["JAVA_TOOL_OPTIONS"]
    assert told.split()[-1] == "-Dhttp.nonProxyHosts=10.*|intranet.test|*.intranet.test|localhost|127.*|[::1]"


def test_a_folder_with_a_blank_spoils_no_program() -> None:
    """Java's options are quoted; Ruby knows no quotes and would not start."""
    told = trust.variables(trust.TrustContext(Path("/my f"), GRAPH, {"RUBYOPT": "-W0"}, PROXY))
    assert "RUBYOPT" not in told
    assert shlex.split(told["JAVA_TOOL_OPTIONS"])[0] == "-Djavax.net.ssl.trustStore=/my f/truststore.p12"


def test_javas_store_holds_the_bundle(own: bytes, corporate: bytes) -> None:
    """As PKCS #12 with a mark of trust on each, which is what Java goes by."""
    store = roots.java_store(own + corporate)
    made = pkcs12.load_pkcs12(store, None)
    assert [each.certificate for each in made.additional_certs] == x509.load_pem_x509_certificates(own + corporate)
    assert store.count(TRUSTED) == 2


def test_what_the_users_java_trusts_stays_trusted(tmp_path: Path, own: bytes, corporate: bytes) -> None:
    """A store that JAVA_TOOL_OPTIONS names is read where it is PKCS #12; of another we say so."""
    store = tmp_path / "my store.p12"
    entry = pkcs12.PKCS12Certificate(x509.load_pem_x509_certificate(corporate), b"corporate")
    store.write_bytes(pkcs12.serialize_java_truststore([entry], BestAvailableEncryption(b"secret")))
    named = f"-Djavax.net.ssl.trustStore='{store}' -Djavax.net.ssl.trustStorePassword=secret"
    environ = {"JAVA_TOOL_OPTIONS": f"-Xmx1g {named}"}
    assert corporate.strip() in trust.ca_bundle(own, environ)
    assert not trust.unreadable_stores(environ)
    store.write_bytes(b"\xfe\xed\xfe\xed")
    assert corporate.strip() not in trust.ca_bundle(own, environ)
    assert trust.unreadable_stores(environ) == ["the trust store that JAVA_TOOL_OPTIONS names"]


def test_wgets_settings_begin_with_the_users(tmp_path: Path, own: bytes, corporate: bytes) -> None:
    """Under `run`, in a folder that ends with it; beside the authority nothing of the user's is kept."""
    (tmp_path / "corporate.pem").write_bytes(corporate)
    settings = [f"ca_certificate={tmp_path / 'corporate.pem'}", "no_proxy = .facebook.com, intranet.test"]
    (tmp_path / ".wgetrc").write_text("\n".join(settings))
    environ, folder = {"HOME": str(tmp_path)}, Path("/f")
    made = trust.files(trust.TrustContext(folder, GRAPH, environ, PROXY), own)
    assert corporate.strip() in made[folder / "bundle.pem"]
    assert made[folder / "wgetrc"].decode().splitlines() == [
        *settings,
        "ca_certificate = /f/bundle.pem",
        "use_proxy = on",
        f"https_proxy = {PROXY}",
        "no_proxy =",
        "no_proxy = intranet.test,localhost,127.0.0.1",
    ]
    told = trust.TrustContext(folder, GRAPH, environ)
    assert trust.files(told, own)[folder / "wgetrc"] == b"ca_certificate = /f/bundle.pem\n"
    assert "WGETRC" not in trust.trusting(told)
    assert trust.trusting(trust.TrustContext(folder, GRAPH, {}))["WGETRC"] == "/f/wgetrc"
