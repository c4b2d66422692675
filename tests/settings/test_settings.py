"""The model of settings: its defaults, its names, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.settings import Address, CacheSettings, Settings, UpstreamSettings, parse_address
from proxy.settings.load import load
from tests.conftest import ROOT

FILE = ROOT / "config" / "graph-sidecar.toml"


@pytest.fixture
def plain_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user whose folders are where they usually are."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_shipped_file_is_the_defaults(plain_home: Path) -> None:
    """The file that ships says exactly what holds without it."""
    assert load(file=FILE).settings == Settings()
    assert Settings().cache.dir == plain_home / ".cache" / "graph-sidecar"


def test_settings_look_at_nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model alone is the defaults, whatever the environment says."""
    monkeypatch.setenv("GRAPH_SIDECAR_BATCH__SLOTS", "7")
    monkeypatch.setenv("BATCH", '{"slots": 7}')
    assert Settings().batch.slots == 50


def test_settings_cannot_be_changed() -> None:
    """Whoever holds the settings can rely on them."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().batch.slots = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "text, host, port",
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("localhost:0", "localhost", 0),
        ("graph_sidecar:1", "graph_sidecar", 1),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int) -> None:
    """An address comes back out as it went in."""
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "localhost", "localhost:", "localhost:65536", "::1:80", "[x]:80", "a b:80", "h:-1", "h:٣"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Half an address, or a strange one, is not guessed at."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    "text, origin",
    [
        ("https://graph.facebook.com", "https://graph.facebook.com"),
        ("https://Graph.Facebook.com/", "https://graph.facebook.com"),
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_an_origin_is_kept_in_one_form(text: str, origin: str) -> None:
    """Capital letters and a last slash make no other origin."""
    assert UpstreamSettings(origin=text).origin == origin


@pytest.mark.parametrize(
    "text",
    [
        "graph.facebook.com",
        "ftp://graph.facebook.com",
        "https://",
        "https://graph.facebook.com/v25.0",
        "https://graph.facebook.com?x=1",
        "https://graph.facebook.com#x",
        "https://user:word@graph.facebook.com",
        "https://graph.facebook.com:0",
        "https://graph.facebook.com:99999",
        "https://graph facebook.com",
        "https://[::1",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    """Anything besides scheme, host and port would be lost or leaked."""
    with pytest.raises(ValidationError, match=r"must be http:// or https://"):
        UpstreamSettings(origin=text)


@pytest.mark.parametrize("text", ["", " x", "x ", "a\r\nb: c", "a\tb", "sidecår", "x" * 257])
def test_what_is_no_header_value_is_refused(text: str) -> None:
    """A User-Agent cannot break out of its header."""
    with pytest.raises(ValidationError, match="legal header value"):
        UpstreamSettings(user_agent=text)


def test_paths_know_the_home_folder(plain_home: Path) -> None:
    """A tilde is the user's home; a dollar sign is only a dollar sign."""
    cache = CacheSettings.model_validate({"dir": "~/entries", "key_file": "~/$HOME/key"})
    assert cache.dir == plain_home / "entries"
    assert cache.key_file == plain_home / "$HOME" / "key"


def test_the_key_may_live_in_memory() -> None:
    """The word `ephemeral` is no path."""
    assert CacheSettings.model_validate({"key_file": "ephemeral"}).key_file == "ephemeral"


def test_the_key_stays_outside_the_cache(tmp_path: Path) -> None:
    """Neither dots nor links lead the key in among the entries it seals."""
    entries = tmp_path / "entries"
    entries.mkdir()
    (tmp_path / "link").symlink_to(entries)
    for key in (entries / "key", tmp_path / "other" / ".." / "entries" / "key", tmp_path / "link" / "key"):
        with pytest.raises(ValidationError, match=r"outside cache\.dir"):
            CacheSettings.model_validate({"dir": str(entries), "key_file": str(key)})
