from typing import Any

import pytest
from msgspec.structs import replace

from proxy.core.client_batch.operation import credential_and_target, plain_read, written_nodes
from proxy.core.model import Credential
from proxy.core.routing.classify import Bypass, Read
from tests.core.samples import HOSTS, NO_RULES, ONE, envelope, normal_operation, plain

# --- the read that it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, target",
    [
        ("111", "/v25.0/111?access_token=TOP"),
        ("/111", "/v25.0/111?access_token=TOP"),
        ("111/", "/v25.0/111?access_token=TOP"),
        ("111?", "/v25.0/111?access_token=TOP"),
        ("111/?fields=b%2Ca", "/v25.0/111?fields=a,b&access_token=TOP"),
        ("v24.0/111", "/v24.0/111?access_token=TOP"),
        ("/v24.0/111?fields=name", "/v24.0/111?fields=name&access_token=TOP"),
        ("?ids=1,2", "/v25.0/?ids=1,2&access_token=TOP"),
        ("111?access_token=own", "/v25.0/111?access_token=own"),
        ("111?access_token=own&appsecret_proof=p", "/v25.0/111?access_token=own&appsecret_proof=p"),
        ("videos.1", "/v25.0/videos.1?access_token=TOP"),
        ("v1/x", "/v25.0/v1/x?access_token=TOP"),
    ],
)
def test_the_read_that_an_operation_is(url: str, target: str) -> None:
    """With or without slash or version, with its own token or the batch's: it is the read that a GET of it is."""
    assert normal_operation({"relative_url": url}) == plain(target)


def test_without_a_version_anywhere() -> None:
    """An operation without a version stays without one."""
    assert normal_operation(ONE, "/") == plain("/1?access_token=TOP")


def test_a_vouched_token_lends_its_proof() -> None:
    """The proof on top is that of the token on top."""
    whole = envelope(ONE, appsecret_proof="p", appsecret_time="7")
    read = plain_read(whole.operations[0], "1", whole, HOSTS, NO_RULES)
    assert isinstance(read, Read)
    assert read.request.credential == Credential("TOP", "p", "7")


def test_the_language_of_the_call_is_that_of_its_operations() -> None:
    """An operation speaks the batch's language unless it has its own."""
    whole = replace(envelope(ONE, {**ONE, "headers": {"Accept-Language": "fr"}}), language="da")
    reads = [plain_read(each, each.relative_url, whole, HOSTS, NO_RULES) for each in whole.operations]
    assert [read.request.language for read in reads if isinstance(read, Read)] == ["da", "fr"]


@pytest.mark.parametrize(
    "item, reason, writes",
    [
        ({"method": "POST", "relative_url": "1"}, "method", True),
        ({"method": "DELETE", "relative_url": "1"}, "method", True),
        ({"method": "PUT", "relative_url": "1"}, "method", True),
        ({"relative_url": "1?method=delete"}, "method", True),
        ({"relative_url": "1", "body": "fields=name"}, "operation", False),
        ({"relative_url": "1", "body": "method=delete"}, "operation", True),
        ({"relative_url": "1?method=delete", "unknown": 1}, "operation", True),
        ({"relative_url": "1", "attached_files": "x"}, "operation", False),
        ({"relative_url": "1", "headers": ["Range: bytes=0-1"]}, "range", False),
        ({"relative_url": "1", "headers": ["Authorization: Bearer x"]}, "credentials", False),
        ({"relative_url": "https://graph.facebook.com/1"}, "operation", False),
        ({"relative_url": "1", "headers": ["Host: graph.instagram.com"]}, "operation", False),
        ({"relative_url": "1", "headers": ["Accept: text/event-stream"]}, "stream", False),
        ({"relative_url": "upload:MTph?sig=x=="}, "upload", False),
        ({"relative_url": "1?callback=?"}, "callback", False),
        ({"relative_url": "1/picture"}, "picture", False),
        ({"relative_url": "oauth/access_token"}, "secret", False),
        ({"relative_url": "?batch=[]"}, "batch", True),
        ({"relative_url": "//1"}, "path", False),
    ],
)
def test_what_is_no_plain_read(*, item: dict[str, Any], reason: str, writes: bool) -> None:
    """Operations other than plain JSON reads are sent in the batch's own call; writes are recognised."""
    assert normal_operation(item) == Bypass(reason, writes=writes)


@pytest.mark.parametrize("url, writes", [("{result=a:$.id}", False), ("{result=a:$.id}?method=delete", True)])
def test_a_read_that_is_not_known_yet(*, url: str, writes: bool) -> None:
    """An operation whose reference is open is no read yet; whether it may write is seen already."""
    whole = envelope({**ONE, "name": "a"}, {"relative_url": url})
    assert plain_read(whole.operations[1], url, whole, HOSTS, NO_RULES) == Bypass("reference", writes=writes)


def test_a_read_with_an_empty_body() -> None:
    """Clients that send `body` with everything get their reads held like anybody's."""
    assert normal_operation({**ONE, "body": "", "name": "n"}) == plain("/v25.0/1?access_token=TOP")


@pytest.mark.parametrize(
    "url, body, nodes",
    [
        ("1/feed", "id=2", ("1",)),
        ("/v25.0/act_1/ads", "", ("act_1",)),
        ("https://graph.facebook.com/v25.0/1/feed?a=://b", "", ("1",)),
        ("1?link=http://example.com", "", ("1",)),
        ("?id=7", "", ("7",)),
        ("", "name=x&id=7", ("7",)),
        ("v25.0/", "ids=7,8", ("7", "8")),
        ("{result=a:$.id}", "", ()),
        ("", "id={result=a:$.id}", ()),
        ("", "", ()),
    ],
)
def test_what_a_write_changes(url: str, body: str, nodes: tuple[str, ...]) -> None:
    """A write is known by its object; one whose object is not known yet may have changed anything."""
    assert written_nodes(url, body) == nodes


@pytest.mark.parametrize(
    "url, body, token",
    [("1", "a=b", "TOP"), ("1?access_token=", "", "TOP"), ("1?access_token=A", "", "A"), ("1", "access_token=B", "B")],
)
def test_whose_write_it_is(url: str, body: str, token: str) -> None:
    """An operation writes with its own token, wherever that stands, or with the batch's."""
    assert credential_and_target(url, body, envelope(ONE))[0].token == token


@pytest.mark.parametrize("step", [".data[0]", ".data.*", "[0]", ".data", ".data[0:1]"])
def test_whether_a_path_is_to_a_plain_value_is_read_in_one_pass(step: str) -> None:
    """A step that can be read in two ways is read in one: in both, these would take longer than any caller lives."""
    parts = [{**ONE, "name": "a"}, {"relative_url": f"{{result=a:${step * 24}.x}}"}]
    assert envelope(*parts).quoted == {0}
    assert envelope(parts[0], {"relative_url": f"{{result=a:${step * 24}.id}}"}).quoted == set()
