"""Who may come to our own paths."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from proxy.core.routing.admin_access import Access, AdminCaller, Guard, admin_refusal

TOKEN = "0123456789abcdef"
OURS = "127.0.0.1:9180"
OPEN = Guard()


def status(access: Access, method: str = "GET", *, guard: Guard = OPEN, near: bool = True, **fields: Any) -> int | None:
    """The status with which a caller is refused; None for one that is let in."""
    headers = {"host": OURS} | {name.replace("_", "-"): value for name, value in fields.items()}
    found = admin_refusal(access, AdminCaller(method, headers, near), guard)
    return found and found.status


@pytest.mark.parametrize(
    "host", [OURS, "localhost", "LOCALHOST:1", "localhost.:9", "[::1]:9180", "10.1.2.3:9180", "me.local"]
)
def test_names_that_nobody_else_can_point_here(host: str) -> None:
    """An address, localhost and what the operator lists are ours, on any port (it may be forwarded)."""
    for access, method in ((Access.READ, "GET"), (Access.ACT, "POST")):
        assert status(access, method, host=host, guard=Guard(frozenset({"me.local"}))) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.test", "evil.test:9180", "localhost.evil.test", "127.0.0.1.evil.test", "127.1", "evil.test@localhost.x",
     "[::1", "graph.facebook.com", "2130706433"],
)  # fmt: skip
def test_names_that_somebody_may_have_pointed_here(host: str) -> None:
    """Any other name is refused, whoever asks; probes alone may be called by any."""
    assert status(Access.READ, host=host) == 421
    assert status(Access.ACT, "POST", host=host, guard=Guard(token=TOKEN), authorization=f"Bearer {TOKEN}") == 421
    assert status(Access.ANYONE, host=host) is None


@pytest.mark.parametrize(
    "fields, is_own",
    [
        ({}, True),
        ({"origin": f"http://{OURS}"}, True),
        ({"origin": f"https://{OURS}", "sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"origin": "http://evil.test"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://127.0.0.1:8080"}, False),
        ({"origin": f"http://{OURS}", "sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
    ],
)
def test_pages_from_elsewhere_change_nothing(fields: dict[str, Any], is_own: bool) -> None:  # noqa: FBT001
    """A page may make a browser send a POST anywhere; it cannot help saying where it is from."""
    assert status(Access.ACT, "POST", **fields) == (None if is_own else 403)
    assert status(Access.READ, "POST", **fields) == (None if is_own else 403)
    assert status(Access.READ, "GET", **fields) is None


def test_who_is_far_changes_nothing_without_a_token() -> None:
    """Without a token those on other machines may read, and do no more."""
    assert status(Access.READ, near=False) is None
    assert status(Access.ACT, "POST", near=False) == 403
    assert status(Access.ACT, "POST", near=False, guard=Guard(token=TOKEN), authorization=f"bearer  {TOKEN} ") is None


def basic(text: str) -> str:
    """Basic credentials."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "shown, opens",
    [
        (f"Bearer {TOKEN}", True),
        (basic(f"anyone:{TOKEN}"), True),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Bearer {TOKEN}0", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer \xff\udcff", False),
        (TOKEN, False),
        (f"Digest {TOKEN}", False),
        ("Basic !!", False),
        ("Basic \xe9", False),
        (basic(TOKEN), False),
        (basic(f"{TOKEN}:"), False),
    ],
)
def test_the_token_is_shown(shown: str, opens: bool) -> None:  # noqa: FBT001
    """Where there is a token everybody needs it, near or far, but for probes."""
    guard = Guard(token=TOKEN)
    for near in (True, False):
        assert status(Access.READ, near=near, guard=guard, authorization=shown) == (None if opens else 401)
        assert status(Access.ACT, "POST", near=near, guard=guard, authorization=shown) == (None if opens else 401)
        assert status(Access.ANYONE, near=near, guard=guard, authorization=shown) is None


def test_the_token_is_in_no_repr() -> None:
    """What is looked at in a debugger or a traceback does not tell it."""
    caller = AdminCaller("GET", {"authorization": f"Bearer {TOKEN}"}, is_near=True)
    assert TOKEN not in repr((Guard(token=TOKEN), caller))
