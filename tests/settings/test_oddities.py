"""Settings that are allowed and hardly meant are told with their name, their value and what is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.settings import Settings
from proxy.settings.load import oddities

SECRET = str(Path(__file__))


@pytest.mark.parametrize(
    "given, beginning, better",
    [
        (
            {"rules": [{"path": "/act_*"}, {"path": "/act_*/ads"}]},
            'rules[1].path = "/act_*/ads": never applies, since rules[0].path = "/act_*"',
            "put the narrower rule first",
        ),
        (
            {"cache": {"fresh_s": 60, "stretch_s": 30}},
            "cache.stretch_s = 30: lies below cache.fresh_s = 60",
            "more than that, or 0",
        ),
        (
            {"rules": [{"path": "/me", "fresh_s": 60, "stretch_s": 30}]},
            "rules[0].stretch_s = 30: lies below rules[0].fresh_s = 60",
            "more than that, or 0",
        ),
        (
            {"cache": {"fresh_s": 60}, "rules": [{"path": "/me", "stretch_s": 30}]},
            "rules[0].stretch_s = 30: lies below cache.fresh_s = 60",
            "more than that, or 0",
        ),
        (
            {"rules": [{"path": "/me", "fresh_s": 60, "cache": False}]},
            "rules[0].fresh_s = 60: does nothing beside cache = false",
            "leave out one of the two",
        ),
        (
            {"upstream": {"origin": "http://graph.facebook.com"}},
            'upstream.origin = "http://graph.facebook.com": sends tokens unencrypted',
            "https://graph.facebook.com",
        ),
        (
            {"webhooks": {"listen": "127.0.0.1:9999"}},
            'webhooks.listen = "127.0.0.1:9999": answers nothing without webhooks.secret_file',
            "set both",
        ),
        ({"webhooks": {"verify_token_file": SECRET}}, f'webhooks.verify_token_file = "{SECRET}": Meta can', "set both"),
        ({"webhooks": {"extend_s": 60}}, "webhooks.extend_s = 60: extends nothing", "set it, or 0"),
        (
            {"log": {"sample": 0.5, "replies": False}},
            "log.sample = 0.5: does nothing beside log.replies = false",
            "leave out one of the two",
        ),
        ({"admin": "0.0.0.0:9180"}, 'admin = "0.0.0.0:9180": is open to others', "set admin_token_file"),
    ],
)
def test_what_is_odd_is_one_line(given: dict[str, Any], beginning: str, better: str) -> None:
    """The line begins with what was set, and ends with what is better."""
    [line] = oddities(Settings.model_validate(given))
    assert line.startswith(beginning)
    assert line.endswith(f"; better: {better}")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cache": {"fresh_s": 60, "stretch_s": 600}, "rules": [{"path": "/me", "fresh_s": 3600}]},
        {"rules": [{"path": "/me", "cache": False, "fresh_s": 0}]},
        {"upstream": {"origin": "http://127.0.0.1:9000"}},
        {"upstream": {"origin": "http://notfacebook.com"}},
        {"webhooks": {"listen": "127.0.0.1:9999", "secret_file": SECRET, "extend_s": 60}},
        {"admin": "0.0.0.0:9180", "admin_token_file": SECRET},
    ],
)
def test_what_may_be_meant_is_not_odd(given: dict[str, Any]) -> None:
    """Defaults, an emulator, and rules that differ on purpose are no reason for a warning."""
    assert oddities(Settings.model_validate(given)) == []
