"""Who may go where by CONNECT, and which messages came to the wrong place."""

from __future__ import annotations

import pytest

from proxy.core.http.errors import BadRequest, Misdirected, Unwelcome
from proxy.core.routing.connect_policy import (
    ConnectPolicy,
    TerminateTls,
    Tunnel,
    is_loopback,
    misdirection,
    split_authority,
)
from proxy.core.routing.hosts import GraphHosts, Head

GRAPH = frozenset({"graph.facebook.com", "graph-video.facebook.com", "graph.test:8443"})
HOSTS = GraphHosts("127.0.0.1:8081", frozenset({"graph-video.facebook.com"}))
OURS = "127.0.0.1:8080"


def gate(*open_to: str, on_loopback: bool = True) -> ConnectPolicy:
    """A gate that is open to these hosts besides Graph's."""
    return ConnectPolicy(GRAPH, open_to, on_loopback)


def head(target: str, host: str = "") -> Head:
    """A GET."""
    return Head("GET", target, {"host": host} if host else {})


@pytest.mark.parametrize(
    "authority, name",
    [
        ("graph.facebook.com:443", "graph.facebook.com"),
        ("GRAPH.Facebook.com:443", "graph.facebook.com"),
        ("graph.facebook.com.:443", "graph.facebook.com"),
        ("graph.test:8443", "graph.test"),
    ],
)
def test_graphs_hosts_end_here(authority: str, name: str) -> None:
    """Whatever tunnels are allowed, TLS to a name of Graph's ends here."""
    assert gate().decide(authority) == gate("any").decide(authority) == TerminateTls(name)


def test_the_names_are_hosts_without_ports() -> None:
    """They are what stands in certificates."""
    assert gate().host_names == {"graph.facebook.com", "graph-video.facebook.com", "graph.test"}


@pytest.mark.parametrize(
    "open_to, authority, host, port",
    [
        (("any",), "example.com:443", "example.com", 443),
        (("any",), "[::1]:22", "::1", 22),
        (("any",), "graph.facebook.com:8443", "graph.facebook.com", 8443),
        (("example.com",), "Example.com:443", "example.com", 443),
        (("a.test", "example.com:8443"), "example.com:8443", "example.com", 8443),
    ],
)
def test_others_are_tunnels_where_that_is_allowed(
    open_to: tuple[str, ...], authority: str, host: str, port: int
) -> None:
    """`any` is every host and port, a host alone is its port 443."""
    assert gate(*open_to).decide(authority) == Tunnel(host, port)


@pytest.mark.parametrize(
    "open_to, authority",
    [
        ((), "example.com:443"),
        (("example.com",), "example.com:22"),
        (("example.com",), "www.example.com:443"),
        (("example.com",), "example.com.evil.test:443"),
    ],
)
def test_others_are_refused_elsewhere(open_to: tuple[str, ...], authority: str) -> None:
    """What is not on the list has no way from here, and its name, which may be a secret, is not repeated."""
    with pytest.raises(Unwelcome, match=r"intercept\.tunnel") as refused:
        gate(*open_to).decide(authority)
    assert "example" not in str(refused.value)


def test_any_is_none_where_others_could_ask() -> None:
    """A listener that other machines reach is no open proxy, whatever the default; a list still holds."""
    with pytest.raises(Unwelcome, match="only while listening on loopback"):
        gate("any", on_loopback=False).decide("example.com:443")
    assert gate("example.com", on_loopback=False).decide("example.com:443") == Tunnel("example.com", 443)


@pytest.mark.parametrize(
    "authority", ["", "example.com", "example.com:", "example.com:0", "example.com:99999", "a b:1"]
)
def test_connect_takes_host_and_port(authority: str) -> None:
    """RFC 9110 section 9.3.6: there is no default port."""
    with pytest.raises(BadRequest, match="host and a port"):
        gate("any").decide(authority)


@pytest.mark.parametrize(
    "text, host, port",
    [("A.b:1", "a.b", 1), ("a.b", "a.b", 443), ("a.b.", "a.b", 443), ("[::1]:5", "::1", 5), ("[::1]", "::1", 443)],
)
def test_an_authority_is_split(text: str, host: str, port: int) -> None:
    """Host and port, in one spelling."""
    assert split_authority(text, 443) == (host, port)


@pytest.mark.parametrize(
    "host, is_it",
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("10.1.2.3", False), ("::", False),
     ("10.0.0.1", False), ("sidecar", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host: str, *, is_it: bool) -> None:
    """Every address counts as open that is not known to be closed."""
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    "target, host",
    [
        ("/v25.0/me", "anything.at.all"),
        ("/v25.0/me", ""),
        ("https://graph.facebook.com/v25.0/me", "graph.facebook.com"),
        ("http://graph.facebook.com:80/v25.0/me", ""),
        ("https://graph-video.facebook.com/v25.0/me", "graph-video.facebook.com"),
        ("http://127.0.0.1:8080/v25.0/me", "127.0.0.1:8080"),
        ("http://localhost:8080/v25.0/me", "localhost:8080"),
        ("http://127.0.0.1:8081/v25.0/me", "127.0.0.1:8081"),
    ],
)
def test_what_came_in_clear_to_the_right_place(target: str, host: str) -> None:
    """Every `Host` means Graph; an absolute form names Graph, or us."""
    assert misdirection(head(target, host), "", HOSTS, OURS) is None


@pytest.mark.parametrize(
    "target", ["http://example.com/", "https://example.com/v25.0/me", "http://127.0.0.1:9180/stats"]
)
def test_an_absolute_form_to_another_host_is_refused(target: str) -> None:
    """There is no way to a host outside the lists, and what was meant for one is not sent to Graph instead."""
    assert isinstance(misdirection(head(target, "graph.facebook.com"), "", HOSTS, OURS), Unwelcome)


@pytest.mark.parametrize(
    "target, host, is_misdirected",
    [
        ("/me", "graph.facebook.com", False),
        ("/me", "GRAPH.facebook.com:443", False),
        ("https://graph.facebook.com/me", "example.com", False),
        ("/me", "graph-video.facebook.com", True),
        ("/me", "example.com", True),
        ("https://graph-video.facebook.com/me", "graph.facebook.com", True),
    ],
)
def test_inside_tls_a_message_is_for_the_name_of_its_connection(
    target: str, host: str, *, is_misdirected: bool
) -> None:
    """RFC 9110 section 15.5.20: 421 where it is for another."""
    found = misdirection(head(target, host), "graph.facebook.com", HOSTS, OURS)
    assert isinstance(found, Misdirected) is is_misdirected
