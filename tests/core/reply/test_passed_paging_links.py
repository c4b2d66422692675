import json

import pytest

from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.reply.passed_paging_links import LARGEST_BODY, accepted_codings, may_hold_links, with_our_links

WAY_IN = LinkOrigin("http://127.0.0.1:8080", frozenset({"graph.facebook.com"}))
PAGE = {"data": [], "paging": {"next": "https://graph.facebook.com/v25.0/1/feed?_fb_url=x&after=y"}}
JSON = ("Content-Type", "application/json; charset=UTF-8")


@pytest.mark.parametrize(
    "told, kept",
    [
        ("gzip, deflate, br", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        ("br, zstd", "identity"),
        ("*", "gzip, deflate"),
        ("", "identity"),
        ("identity", "identity"),
        ("GZIP", "GZIP"),
    ],
)
def test_codings_that_can_be_undone(told: str, kept: str) -> None:
    """Only what can be read here is asked for, and never what the caller does not accept."""
    assert accepted_codings(told) == kept


@pytest.mark.parametrize(
    "status, fields, may",
    [
        (200, (JSON,), True),
        (200, (("content-type", "text/javascript"), ("Content-Encoding", "gzip")), True),
        (200, (JSON, ("Content-Encoding", "br")), False),
        (200, (JSON, ("Content-Length", str(LARGEST_BODY))), True),
        (200, (JSON, ("Content-Length", str(LARGEST_BODY + 1))), False),
        (206, (JSON,), False),
        (400, (JSON,), False),
        (200, (("Content-Type", "text/csv"),), False),
        (200, (), False),
    ],
)
def test_what_may_hold_links(*, status: int, fields: tuple[tuple[str, str], ...], may: bool) -> None:
    """Whole JSON of a size that is held."""
    assert may_hold_links(status, fields) is may


def test_links_of_slots() -> None:
    """In a batch they stand in texts; what is no slot, or no JSON, stays as it is."""
    text = json.dumps(PAGE)
    for slots in ([{"code": 200, "body": text}, None], [[1, {"code": 200, "body": text}]]):
        for before, after in (("", ""), ("/**/ cb(", ");")):
            told = with_our_links(f"{before}{json.dumps(slots)}{after}".encode(), WAY_IN).decode()
            assert told.startswith(before)
            assert told.endswith(after)
            assert "http://127.0.0.1:8080/v25.0/1/feed?after=y" in told
            assert "graph.facebook.com" not in told
    for text in ("[paging", '["paging"]', '{"paging":1}', "paging", "/**/ paging", "/**/ a([paging"):
        assert with_our_links(text.encode(), WAY_IN) == text.encode()
