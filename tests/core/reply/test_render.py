import pytest

from proxy.core.http import errors
from proxy.core.http.cache_status import cache_status
from proxy.core.model import NO_DIRECTIVES, CacheDirectives, Headers, Mode, Reply
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.reply.render import bare, passthrough_status, render
from tests.core.samples import BODY, ETAG, TYPED, names, plain, reply

LINKED = b'{"paging":{"next":"https://graph.facebook.com/v25.0/1?access_token=t"}}'
HERE = LinkOrigin("http://127.0.0.1:8080", frozenset({"graph.facebook.com"}))
NOWHERE = LinkOrigin("", HERE.hosts)
USAGE = (("x-app-usage", '{"call_count":9}'),)


def dressed(told: Reply, target: str = "/1", way_in: LinkOrigin = HERE, usage: Headers = (), **fields: str) -> Reply:
    """*told* as the caller of *target* gets it."""
    return render(plain(target, **fields), told, way_in, usage)


# --- what a caller gets -----------------------------------------------------------------------------------------------


def test_a_plain_reply() -> None:
    """Graph's own fields and body, and behind them what the sidecar did and how long it took."""
    told = dressed(reply(window_s=0.005, upstream_s=0.0801))
    assert told.body == BODY
    assert told.headers == (
        *TYPED,
        ("ETag", ETAG),
        ("Cache-Status", "graph-sidecar; fwd=uri-miss"),
        ("Server-Timing", "window;dur=5.0, upstream;dur=80.1"),
    )


@pytest.mark.parametrize("tags, status", [(ETAG, 304), (f'"x", W/{ETAG}', 304), ("*", 304), ('"x"', 200), ("", 200)])
def test_the_callers_own_validator(tags: str, status: int) -> None:
    """A caller that holds the body already gets 304 with the header fields and nothing more."""
    told = dressed(reply(headers=(*reply().headers, ("Content-Length", "9"))), if_none_match=tags)
    assert told.status == status
    assert told.body == (b"" if status == 304 else BODY)
    assert ("content-length" in names(told)) is (status == 200)
    assert {"etag", "cache-status", "content-type"} <= set(names(told))


@pytest.mark.parametrize("told", [reply(etag=""), reply(404), reply(500)])
def test_what_is_never_answered_304(told: Reply) -> None:
    """Only a 200 with an ETag can be what a caller holds."""
    assert dressed(told, if_none_match="*").status == told.status


def test_links_lead_back() -> None:
    """Paging links lead the way that the caller came, unless Graph's name or the settings say otherwise."""
    assert dressed(reply(body=LINKED)).body == LINKED.replace(b"https://graph.facebook.com", b"http://127.0.0.1:8080")
    assert dressed(reply(body=LINKED), way_in=NOWHERE).body == LINKED
    assert dressed(reply(400, body=LINKED)).body == LINKED


def test_jsonp() -> None:
    """The body is handed to the caller's function, links and all, and is called a script."""
    told = dressed(reply(body=LINKED), "/1?callback=app.got%5B0%5D")
    assert told.body == b'/**/ app.got[0]({"paging":{"next":"http://127.0.0.1:8080/v25.0/1?access_token=t"}});'
    assert told.header("content-type") == "text/javascript; charset=UTF-8"
    assert names(told).count("content-type") == 1


@pytest.mark.parametrize(
    "kind, wrapped",
    [
        ("application/json", True),
        ("Text/JavaScript; charset=x", True),
        ("image/png", False),
        ("text/html", False),
        (None, False),
    ],
)
def test_jsonp_of_json_alone(kind: str | None, wrapped: bool) -> None:  # noqa: FBT001
    """Only JSON becomes a script; errors do, too, for a page could not read them otherwise."""
    told = Reply(400, (("Content-Type", kind),) if kind else (), BODY)
    assert dressed(told, "/1?callback=cb").body == (b"/**/ cb(" + BODY + b");" if wrapped else BODY)


@pytest.mark.parametrize(
    "told, expected",
    [
        (reply(mode=Mode.REUSED), USAGE),
        (reply(mode=Mode.STALE), USAGE),
        (reply(mode=Mode.REVALIDATED), USAGE),
        (reply(mode=Mode.COALESCED, joined=Mode.REVALIDATED), USAGE),
        (reply(mode=Mode.REVALIDATED, headers=(("X-App-Usage", "new"),)), (("X-App-Usage", "new"),)),
        (reply(mode=Mode.MISS), ()),
        (reply(mode=Mode.COALESCED, joined=Mode.MISS), ()),
        (reply(mode=Mode.CHANGED, headers=(("x-page-usage", "new"),)), (("x-page-usage", "new"),)),
        (reply(503, mode=Mode.FAILED), ()),
    ],
)
def test_usage(told: Reply, expected: Headers) -> None:
    """Usage is what Graph said with this reply, else the newest known; where Graph was silent now, nothing is added."""
    found = tuple(field for field in dressed(told, usage=USAGE).headers if "usage" in field[0].lower())
    assert found == expected


def test_age() -> None:
    """A reply that Graph was not asked for now says how old it is, in whole seconds."""
    assert dressed(reply(age=12.9, ttl=47.1, mode=Mode.REUSED)).header("age") == "12"
    assert dressed(reply()).header("age") is None


def test_an_error_without_a_read() -> None:
    """An error about a message that was not understood tells its kind, and claims no call to Graph."""
    told = bare(errors.reply_of(errors.BadRequest("what is this")))
    assert told.header("cache-status") == "graph-sidecar; detail=badrequest"
    assert told.header("server-timing") == "window;dur=0.0, upstream;dur=0.0"


@pytest.mark.parametrize(
    "reason, writes, expected",
    [
        ("method", True, "graph-sidecar; fwd=method"),
        ("picture", False, "graph-sidecar; fwd=bypass; detail=picture"),
        ("parameter-name", False, "graph-sidecar; fwd=bypass; detail=parameter-name"),
    ],
)
def test_streams(reason: str, writes: bool, expected: str) -> None:  # noqa: FBT001
    """What passes through says why the cache had no part in it."""
    assert dict(passthrough_status(reason, writes=writes))["Cache-Status"] == expected
    assert "Server-Timing" in dict(passthrough_status(reason, writes=writes))


# --- Cache-Status, RFC 9211 -------------------------------------------------------------------------------------------

FORCED = CacheDirectives(no_cache=True)


@pytest.mark.parametrize(
    "told, wishes, expected",
    [
        (reply(mode=Mode.MISS, stored=True), NO_DIRECTIVES, "fwd=uri-miss; stored"),
        (reply(mode=Mode.MISS), NO_DIRECTIVES, "fwd=uri-miss"),
        (reply(mode=Mode.MISS), FORCED, "fwd=request"),
        (reply(mode=Mode.MISS), CacheDirectives(no_store=True), "fwd=request"),
        (reply(mode=Mode.REVALIDATED), NO_DIRECTIVES, "fwd=stale; fwd-status=304"),
        (reply(mode=Mode.REVALIDATED), FORCED, "fwd=request; fwd-status=304"),
        (reply(mode=Mode.CHANGED, stored=True), NO_DIRECTIVES, "fwd=stale; fwd-status=200; stored"),
        (reply(404, mode=Mode.CHANGED), NO_DIRECTIVES, "fwd=stale; fwd-status=404"),
        (reply(mode=Mode.CHANGED, stored=True), FORCED, "fwd=request; fwd-status=200; stored"),
        (reply(mode=Mode.COALESCED, joined=Mode.MISS, stored=True), NO_DIRECTIVES, "fwd=uri-miss; stored; collapsed"),
        (reply(mode=Mode.COALESCED, joined=Mode.REVALIDATED), NO_DIRECTIVES, "fwd=stale; fwd-status=304; collapsed"),
        (reply(mode=Mode.REUSED, ttl=12.9), NO_DIRECTIVES, "hit; ttl=12"),
        (reply(mode=Mode.COALESCED, joined=Mode.REUSED, ttl=12.9), NO_DIRECTIVES, "hit; ttl=12"),
        (reply(mode=Mode.STALE, ttl=-0.5, detail="stale-while-revalidate"), NO_DIRECTIVES,
         "hit; ttl=-1; detail=stale-while-revalidate"),
        (errors.reply_of(errors.Unreachable("x")), NO_DIRECTIVES, "fwd=uri-miss; detail=unreachable"),
        (errors.reply_of(errors.NotHeld("x")), CacheDirectives(only_if_cached=True), "detail=notheld"),
        (errors.reply_of(errors.Overloaded("x")), NO_DIRECTIVES, "detail=overloaded"),
        (errors.reply_of(errors.Draining("x")), NO_DIRECTIVES, "detail=draining"),
    ],
)  # fmt: skip
def test_cache_status(told: Reply, wishes: CacheDirectives, expected: str) -> None:
    """The words of RFC 9211: a hit was not forwarded, what was forwarded says why, and neither is said of the other."""
    assert cache_status(told, wishes) == f"graph-sidecar; {expected}"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("ttl", [None, 5.0])
@pytest.mark.parametrize("error", errors.SidecarError.__subclasses__())
def test_cache_status_is_well_formed(mode: Mode, ttl: float | None, error: type[errors.SidecarError]) -> None:
    """Whatever happened, the field is one member with parameters that RFC 9211 names, each once, `hit` or `fwd`."""
    told = reply(mode=mode, ttl=ttl, stored=True, detail=errors.reply_of(error("x")).detail)
    name, *parameters = cache_status(told, FORCED).split("; ")
    kinds = [parameter.partition("=")[0] for parameter in parameters]
    assert name == "graph-sidecar"
    assert set(kinds) <= {"hit", "ttl", "fwd", "fwd-status", "stored", "collapsed", "detail"}
    assert len(set(kinds)) == len(kinds)
    assert not {"hit", "fwd"} <= set(kinds)
    assert not {"hit", "collapsed"} <= set(kinds)
