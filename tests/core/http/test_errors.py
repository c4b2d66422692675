import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.graph.errors import Blame, GraphError, blame, is_clean, is_trouble, read_error
from proxy.core.http import errors
from proxy.core.http.errors import reply_of
from proxy.core.model import Mode
from tests.core.samples import reply

KINDS = errors.SidecarError.__subclasses__()
DEEP = b'{"a":' * 100_000
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "is_transient", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.one_of(st.binary(max_size=30), any_json.map(lambda value: json.dumps(value).encode()))


def error(code: int, message: str = "", *, is_transient: bool = False) -> bytes:
    """A body with Graph's error envelope."""
    return json.dumps({"error": {"code": code, "message": message, "is_transient": is_transient}}).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_ours(kind: type[errors.SidecarError]) -> None:
    """Every error of the sidecar's is typed JSON in Graph's shape, so that each SDK raises its own error for it."""
    told = reply_of(kind("no luck"))
    content = json.loads(told.body)["error"]
    assert told.status == kind.status >= 400
    assert told.header("content-type") == "application/json; charset=UTF-8"
    assert told.header("cache-control") == "no-store"
    assert content["message"] == "graph-sidecar: no luck"
    assert (content["code"], content["is_transient"], content["type"]) == (
        kind.code, kind.transient, "GraphSidecarException",
    )  # fmt: skip
    assert (told.mode, told.detail) == (Mode.FAILED, kind.__name__.lower())
    assert (told.header("retry-after") is not None) is (kind.status == 503)


def test_the_status_of_its_kind() -> None:
    """Unreachable is 502, overloaded and draining 503, too late 504, as the documentation says."""
    assert {kind.__name__: kind.status for kind in KINDS} == {
        "Unreachable": 502, "Cut": 502, "Nonsense": 502, "Large": 502, "Overloaded": 503, "Draining": 503, "Late": 504,
        "NotHeld": 504, "BadRequest": 400, "Slow": 408, "Unwelcome": 403, "Misdirected": 421, "Uncertified": 502,
        "Fault": 500, "Unspoken": 505,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body, found",
    [
        (error(190, "no"), GraphError(190, "no")),
        (b'{"error":{"code":"190","type":"OAuthException","is_transient":"true"}}', GraphError(190, "", True)),
        (b'{"error":{"code":4,"message":null}}', GraphError(4, None)),
        (b'{"error":{"code":"?"}}', GraphError()),
        (b'{"error":"text"}', GraphError()),
        (b'{"error":0,"error_description":"batch parameter must be a JSON array"}', GraphError()),
        (b'{"error":"\xff"}', GraphError()),
        (b'{"error_code":190,"error_msg":"Invalid OAuth 2.0 Access Token"}', GraphError(190)),
        (b'{"error_code":"4","error_description":"(#4)"}', GraphError(4)),
        (b'{"error_type":"OAuthException","code":190,"error_subcode":463,"error_message":"x"}',
         GraphError(190, "", False, 463)),
        (b'{"error_type":"x","error_message":"y","code":[]}', GraphError()),
        (b'{"error_msg":"x"}', None),
        (b'{"error_code":190,"error_message":"x","id":"1"}', None),
        (b'{"error":{"code":4,"message":"\\ud83d","is_transient":true}}', GraphError(4, "", True)),
        (b'{"error":{"code":4,"message":"\xff"}}', GraphError(4)),
        (b'{"error":{"code":190,"message":"a\x01b"}}', GraphError(190)),
        (b'{"error_code":190,"error_msg":"\x01"}', GraphError(190)),
        (b'{"message":"an \\"error\\" \\ud83d"}', None),
        (b'{"error":null}', None),
        (b"{}", None),
        (b'{"data":{"error":{"code":1}}}', None),
        (b"[1]", None),
        (b"", None),
        (b"<html>", None),
        (b'{"error":{}', None),
        (DEEP, None),
    ],
)  # fmt: skip
def test_reading_graphs_errors(body: bytes, found: GraphError | None) -> None:
    """An error is recognised at the top level alone, in whatever shape, and whatever text stands in it."""
    assert read_error(body) == found


@given(bodies)
def test_any_body_can_be_looked_at(body: bytes) -> None:
    """No body of Graph's upsets the sidecar, and what is clean holds no error."""
    if is_clean(body):
        assert read_error(body) is None
    assert blame(400, body) in Blame


@pytest.mark.parametrize(
    "body, clean",
    [
        (b"{}", True), (b'{"a":[1]}', True), (b'{"error":null}', True), (b'{"data":{"error":1}}', True),
        (b'{"error":{}}', False), (b'{"error":false}', False), (b"[]", False), (b"true", False), (b"", False),
        (b"{", False), (b"{}x", False), (DEEP, False),
        (b'{"error_code":4,"error_msg":"x"}', False), (b'{"data":{"error":{"code":1}}}', False),
        (b'{"data":{"error":{"code":1}},"id":"1"}', True), (b'{"data":"\\ud83d"}', True),
        (b'{"data":"\\ud83d","error_code":4,"error_msg":"x"}', False), (b'["\\ud83d"]', False),
        (b'{"error_type":"x","error_message":"y"}', False), (b'{"error_code":4,"id":"1"}', True),
    ],
)  # fmt: skip
def test_clean_bodies(body: bytes, clean: bool) -> None:  # noqa: FBT001
    """Only a JSON object without an error, in whatever shape, may be held."""
    assert is_clean(body) is clean


@pytest.mark.parametrize(
    "status, body, whose",
    [
        (400, error(190), Blame.TOKEN),
        (401, error(190), Blame.TOKEN),
        (200, error(190), Blame.TOKEN),
        (200, b'{"error_code":190,"error_msg":"x"}', Blame.TOKEN),
        (200, b'{"error_type":"OAuthException","code":4,"error_message":"x"}', Blame.QUOTA),
        (400, b'{"error":{"code":17,"message":"cut \\ud83d"}}', Blame.QUOTA),
        (400, error(102), Blame.TOKEN),
        (400, error(104), Blame.TOKEN),
        (400, error(2500, "An active access token must be used to query the current user."), Blame.TOKEN),
        (400, error(2500, "Unknown path components: /x"), Blame.OTHER),
        (500, error(4), Blame.QUOTA),
        (400, error(100, "Invalid appsecret_proof provided in the API argument"), Blame.TOKEN),
        (400, error(100, "Unsupported get request."), Blame.OTHER),
        (400, b'{"error":{"code":100,"message":null}}', Blame.OTHER),
        (400, error(4), Blame.QUOTA),
        (403, error(17), Blame.QUOTA),
        (429, error(80004), Blame.QUOTA),
        (500, error(190), Blame.OTHER),
        (400, error(1), Blame.OTHER),
        (400, b'{"error":{"type":"GraphBatchException"}}', Blame.OTHER),
        (200, b"<html>", Blame.OTHER),
        (400, b"", Blame.OTHER),
    ],
)
def test_blame(status: int, body: bytes, whose: Blame) -> None:
    """A refused batch is laid at the door of the token on top only where Graph says so."""
    assert blame(status, body) is whose


@pytest.mark.parametrize(
    "status, body, trouble",
    [
        (200, b"{}", False), (200, error(4), True), (200, error(100), False), (304, b"", False),
        (404, error(803), False),
        (400, error(190), False), (400, error(2), True), (400, error(4), True), (403, error(17), True),
        (400, error(100, is_transient=True), True),
        (429, b"", True), (500, b"", True), (503, b"<html>", True), (400, b"<html>", False),
    ],
)  # fmt: skip
def test_trouble(status: int, body: bytes, trouble: bool) -> None:  # noqa: FBT001
    """Old bodies stand in for Graph's own trouble and for throttles, with any status, never for a 404 or a 190."""
    assert is_trouble(reply(status, body)) is trouble


def test_a_batch_that_is_refused_here() -> None:
    """A batch larger than Graph takes is refused in Graph's own words and shape, which its SDKs know."""
    told = errors.batch_refused("Too many requests in batch message. Maximum batch size is 50")
    assert json.loads(told.body)["error"] == {
        "message": "Too many requests in batch message. Maximum batch size is 50",
        "type": "GraphBatchException",
    }
    assert (told.status, told.header("content-type")) == (400, "application/json; charset=UTF-8")
