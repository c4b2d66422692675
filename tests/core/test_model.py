from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch.response import Outcomes
from proxy.core.cache.policy import Settled
from proxy.core.client_batch.parse import read_operations
from proxy.core.graph.errors import GraphError, read_error
from proxy.core.model import Credential, Mode, Reply
from proxy.core.observe.access_log import PassedMessage
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.routing.hosts import Head
from tests.core.samples import credential, entry, head, plain, reply, request

secrets = st.text("abcdef0123456789|", min_size=12, max_size=40)


@given(secrets, secrets, secrets)
def test_no_repr_shows_a_secret(token: str, proof: str, time: str) -> None:
    """Whatever is logged, asserted or put into an error by accident, no token and no proof is read there."""
    who = Credential(token, proof, time)
    body = f'{{"paging":{{"next":"https://graph.facebook.com/me?access_token={token}"}}}}'.encode()
    fields = (("Location", f"/me?access_token={token}"), ("Link", proof))
    asked = request(credential=who)
    told = Reply(302, fields, body)
    held = entry(body=body)
    error = read_error(f'{{"error":{{"code":190,"message":"Malformed access token {token}"}}}}'.encode())
    shown = repr(
        [
            who,
            asked,
            told,
            held,
            error,
            Settled(told, held),
            Outcomes({0: told}),
            Head("GET", f"/me?access_token={token}", {"authorization": f"Bearer {token}"}),
            plain(f"/me?access_token={token}&appsecret_proof={proof}&appsecret_time={time}"),
            QuotaSubject(b"1", "/debug_token", f"input_token={token}"),
            PassedMessage("GET", "g", "v25.0", "/debug_token", f"input_token={token}", "path", writes=False),
            read_operations([{"relative_url": f"me?access_token={token}", "body": proof, "headers": [time]}]),
        ],
    )
    assert not [secret for secret in (token, proof, time) if secret in shown]


def test_reprs_say_what_may_be_said() -> None:
    """A developer still sees which read, which status and which error it was."""
    assert "path='/1'" in repr(request())
    assert "status=200" in repr(reply())
    assert "GET" in repr(head("/1"))
    assert repr(GraphError(190)) == "GraphError(190)"
    assert '"e1"' in repr(entry())


def test_the_first_field_of_a_name() -> None:
    """Header fields are found in any case, the first of several."""
    told = Reply(200, (("ETag", "1"), ("etag", "2")), b"")
    assert (told.header("ETAG"), told.header("Age")) == ("1", None)


def test_origin_mode() -> None:
    """A joined request knows how the answer that it shares came about."""
    assert reply(mode=Mode.MISS).origin_mode is Mode.MISS
    assert reply(mode=Mode.COALESCED, joined=Mode.CHANGED).origin_mode is Mode.CHANGED


def test_asking_on_a_condition() -> None:
    """A validator changes nothing else of a request."""
    assert request().with_validator('"e"').with_validator("") == request()
    assert credential() == request().credential
