"""`shared.url`, taken apart."""

from __future__ import annotations

import pytest

from proxy.core.shared.location import Location, read_location


@pytest.mark.parametrize(
    "url, location",
    [
        ("valkey://cache", Location((("cache", 6379),))),
        ("redis://127.0.0.1:6400/3", Location((("127.0.0.1", 6400),), database=3)),
        ("redis://127.0.0.1:6400/", Location((("127.0.0.1", 6400),))),
        ("valkeys://cache.example.com", Location((("cache.example.com", 6379),), tls=True)),
        ("rediss://[::1]:7000", Location((("::1", 7000),), tls=True)),
        ("unix:///run/valkey.sock", Location(path="/run/valkey.sock")),
        (
            "valkey+sentinel://a,b:5000,c/main",
            Location((("a", 26379), ("b", 5000), ("c", 26379)), name="main"),
        ),
        ("rediss+sentinel://a/main/2", Location((("a", 26379),), tls=True, database=2, name="main")),
    ],
)
def test_every_way_to_name_a_store(url: str, location: Location) -> None:
    """Every way to name a store."""
    assert read_location(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache:6379",
        "http://cache",
        "redis://",
        "redis://:6379",
        "redis://a,b",
        "redis://a:0",
        "redis://a:x",
        "redis://a/x",
        "redis://a/1/2",
        "redis://a?db=1",
        "redis://user:word@a",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+cluster://a/main",
        "unix://host/run/x",
        "unix://",
        "redis://[::1",
        "redis://a b",
    ],
)
def test_what_names_no_store_is_refused_with_what_is_allowed(url: str) -> None:
    """What names no store is refused with what is allowed."""
    with pytest.raises(ValueError, match="must"):
        read_location(url)


def test_a_location_is_told_without_secrets() -> None:
    """A location is told without secrets."""
    assert str(read_location("valkey+sentinel://a,[::1]:9/main")) == "main at a:26379,[::1]:9"
    assert str(read_location("unix:///run/x")) == "/run/x"
