import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.http.cache_control import cache_directives, matches
from proxy.core.http.errors import BadRequest
from proxy.core.model import NO_DIRECTIVES, CacheDirectives, Channel, Credential
from proxy.core.routing.classify import CONDITIONS, Bypass, Read, classify, credential, may_write
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import Rule, RuleBook, RuleMatch
from tests.core.samples import GRAPH, HOSTS, INSTAGRAM, NO_RULES, UPLOADS, head, plain

BEARER = "Bearer TOK|EN"
ASKED = "/v25.0/111?fields=name&access_token=TOK%7CEN"


def asked(target: str = ASKED, method: str = "GET", body: bytes | None = b"") -> Read | Bypass:
    """What a message turns out to be."""
    return classify(head(target, method), body, HOSTS, NO_RULES)


def asked_with(fields: dict[str, str], target: str = ASKED) -> Read | Bypass:
    """What a GET with header *fields* turns out to be."""
    return classify(head(target, **fields), b"", HOSTS, NO_RULES)


# --- who asks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, fields",
    [
        (ASKED, {}),
        ("/v25.0/111?fields=name", {"authorization": BEARER}),
        ("/v25.0/111?fields=name", {"authorization": "OAuth TOK|EN"}),
        ("/v25.0/111?fields=name", {"authorization": "bearer   TOK|EN "}),
        (ASKED, {"authorization": BEARER}),
        (f"{ASKED}&access_token=TOK%7CEN", {}),
    ],
)
def test_one_token_many_ways(target: str, fields: dict[str, str]) -> None:
    """A token is the same whether it comes in the query, in the header, or in both."""
    found = asked_with(fields, target)
    assert isinstance(found, Read)
    assert found.request.credential == Credential("TOK|EN")
    assert found.request == plain(ASKED).request


@pytest.mark.parametrize(
    "target, fields, reason",
    [
        ("/me?access_token=a&access_token=b", {}, "credentials"),
        ("/me?access_token=a", {"authorization": "Bearer b"}, "credentials"),
        ("/me?access_token=", {}, "credentials"),
        ("/me?access_token=", {"authorization": "Bearer b"}, "credentials"),
        ("/me?appsecret_proof=p", {}, "credentials"),
        ("/me?appsecret_time=1", {}, "credentials"),
        ("/me", {"authorization": "Basic YTpi"}, "authorization"),
        ("/me", {"authorization": "Bearer"}, "authorization"),
        ("/me", {"authorization": ""}, "authorization"),
        ("/me", {"authorization": "Bearer a, Bearer b"}, "authorization"),
        ("/me", {"authorization": "a"}, "authorization"),
    ],
)
def test_who_only_graph_can_say(target: str, fields: dict[str, str], reason: str) -> None:
    """A message with two tokens, or with half of a credential, is Graph's to judge, as it was written."""
    assert asked_with(fields, target) == Bypass(reason, writes=False)


def test_proofs_belong_to_the_credential() -> None:
    """Proof and time go with the token, and are no part of what is read."""
    found = plain("/me?fields=id&access_token=t&appsecret_time=1&appsecret_proof=p").request
    assert (found.credential, found.query) == (Credential("t", "p", "1"), "fields=id")
    assert credential(head("/me")) is None


def test_anonymous_reads_go_alone() -> None:
    """A read without a token never enters a batch, where it would borrow somebody's."""
    found = plain("/v25.0/cocacola?fields=name").request
    assert (found.credential, found.channel) == (None, Channel.DIRECT)


# --- what is a plain read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [b"", b"{}", b" {}\r\n", b"[]", b"null", b'""'])
@pytest.mark.parametrize("spelling", ["", "&method=get", "&method=GET", "&method=delete&method=get", "&method="])
def test_plain_reads(method: str, body: bytes, spelling: str) -> None:
    """A GET is a read with the empty JSON that Meta's Node SDK sends along, and however it says so twice."""
    found = asked(ASKED + spelling, method, body)
    assert isinstance(found, Read)
    assert found.request == plain(ASKED).request


@pytest.mark.parametrize(
    "target, method, body, expected",
    [
        (ASKED, "POST", b"", Bypass("method", writes=True)),
        (ASKED, "DELETE", b"{}", Bypass("method", writes=True)),
        (ASKED, "PUT", b"", Bypass("method", writes=True)),
        (ASKED, "BREW", b"", Bypass("method", writes=True)),
        (ASKED, "OPTIONS", b"", Bypass("method", writes=False)),
        (f"{ASKED}&method=delete", "OPTIONS", b"", Bypass("method", writes=False)),
        ("/?batch=[]&b[atch=1", "OPTIONS", b"", Bypass("method", writes=False)),
        (f"{ASKED}&method=delete", "GET", b"", Bypass("method", writes=True)),
        (f"{ASKED}&method=POST", "HEAD", b"", Bypass("method", writes=True)),
        (f"{ASKED}&method=get&method=delete", "GET", b"", Bypass("method", writes=True)),
        (f"{ASKED}&method=%64elete", "GET", b"", Bypass("method", writes=True)),
        (f"{ASKED}&method=get", "POST", b"", Bypass("method", writes=False)),
        (f"{ASKED}&method%00x=delete", "GET", b"", Bypass("parameter-name", writes=True)),
        (f"{ASKED}&+method=delete", "GET", b"", Bypass("parameter-name", writes=True)),
        (f"{ASKED}{'&a=b' * 1000}", "GET", b"", Bypass("parameters", writes=True)),
        (f"{ASKED}&method=delete{'&a=b' * 1000}", "GET", b"", Bypass("method", writes=True)),
        (ASKED, "GET", None, Bypass("body", writes=True)),
        (ASKED, "GET", b"method=delete", Bypass("body", writes=True)),
        (ASKED, "GET", b"m%65thod=delete", Bypass("body", writes=True)),
        (ASKED, "GET", b'{"m\\u0065thod":"delete"}', Bypass("body", writes=True)),
        (ASKED, "GET", b"\x1f\x8b\x08", Bypass("body", writes=True)),
        (ASKED, "GET", b"limit=2&after=x", Bypass("body", writes=False)),
        ("/?batch=[]", "GET", b"", Bypass("batch", writes=True)),
        ("/?asyncbatch=[]", "GET", b"", Bypass("batch", writes=True)),
        ("/a/../b", "GET", b"", Bypass("path", writes=False)),
        ("/1?a=\ud800", "GET", b"", Bypass("text", writes=True)),
    ],
)
def test_what_is_no_plain_read(target: str, method: str, body: bytes | None, expected: Bypass) -> None:
    """`method=` in query or body decides what is a write; what cannot be told is not taken for a read."""
    assert asked(target, method, body) == expected


@pytest.mark.parametrize(
    "target, reason",
    [
        ("/v25.0/oauth/access_token?client_id=1&client_secret=s", "secret"),
        ("/oauth", "secret"),
        ("/%6Fauth/access_token", "secret"),
        ("/OAuth/access_token", "secret"),
        ("/v25.0/debug_token?input_token=x&access_token=t", "secret"),
        ("/refresh_access_token?grant_type=ig_refresh_token&access_token=t", "secret"),
        ("/access_token?grant_type=th_exchange_token&access_token=t", "secret"),
        ("/1?client_secret=s", "secret"),
        ("/upload:MTphdHRhY2htZW50?sig=ARZ==", "upload"),
        ("/v25.0/upload%3AMTph==", "upload"),
        ("/Upload:x", "upload"),
        ("/1?callback=?", "callback"),
        ("/1?callback=%3F", "callback"),
        ("/v25.0/me/picture", "picture"),
        ("/me/picture/", "picture"),
    ],
)
def test_paths_that_are_left_alone(target: str, reason: str) -> None:
    """Calls that deal in secrets or pictures are neither held nor batched."""
    assert asked(target) == Bypass(reason, writes=False)


@pytest.mark.parametrize("target", ["/oauths", "/me/pictures", "/me?fields=picture", "/me/oauth2"])
def test_paths_that_only_look_alike(target: str) -> None:
    """An object or a field that is merely called like those is an ordinary read."""
    assert isinstance(asked(target), Read)


@pytest.mark.parametrize(
    "fields, reason",
    [
        *(({name.replace("-", "_"): "x"}, "range") for name in sorted(CONDITIONS)),
        ({"accept": "application/json, Text/Event-Stream"}, "stream"),
        ({"accept_language": "da\r\nX: y"}, "language"),
        ({"accept_language": "\udcff"}, "language"),
        ({"host": UPLOADS}, "host"),
    ],
)
def test_heads_that_ask_for_something_else(fields: dict[str, str], reason: str) -> None:
    """Ranges, streams, upload hosts and fields that no slot could carry go straight to Graph."""
    assert asked_with(fields) == Bypass(reason, writes=False)


@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.binary(max_size=20) | st.none(),
    st.dictionaries(
        st.sampled_from(
            ["authorization", "host", "cache-control", "pragma", "if-none-match", "accept-language", "accept"]
        ),
        st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    ),
)
@example("GET", "?callback=1", b"", {})
def test_any_message_is_judged(method: str, target: str, body: bytes | None, fields: dict[str, str]) -> None:
    """No head and no body upsets the sidecar: each is a read, is passed through, or is refused with a reason."""
    try:
        assert isinstance(classify(Head(method, f"/{target}", fields), body, HOSTS, NO_RULES), Read | Bypass)
    except BadRequest as refusal:
        assert "callback" in str(refusal)  # noqa: PT017 - refusing is one of three right answers


# --- how it travels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, channel",
    [
        (ASKED, Channel.BATCH),
        ("/me?q=%7Bresult%3Done:$.id%7D&access_token=t", Channel.DIRECT),
        ("/me?{result=one:$.id}&access_token=t", Channel.DIRECT),
        ("/me?q={+result+=one}&access_token=t", Channel.DIRECT),
        ("/%7Bresult=one:$.id%7D?access_token=t", Channel.DIRECT),
        ("/me?access_token={result=one:$.id}", Channel.DIRECT),
        ("/me?access_token=t&appsecret_proof=%7Bresult=one:$.id%7D", Channel.DIRECT),
        ("/me?q={results}&access_token=t", Channel.DIRECT),
        ("/me?fields=a%7Bb%7D&access_token=t", Channel.BATCH),
        ("/me?suppress_http_code=1&access_token=t", Channel.DIRECT),
    ],
)
def test_reads_that_mean_something_else_in_a_batch(target: str, channel: Channel) -> None:
    """A read whose text a batch would take for a reference is asked in a call of its own."""
    assert plain(target).request.channel is channel


def test_rules_decide_what_rides() -> None:
    """A rule, found by path and fields in any spelling, keeps a read out of batches."""
    rules = RuleBook([RuleMatch("/act_*/insights", frozenset({"spend", "reach"}), Rule(batch=False))], Rule())
    target = "/v25.0/act_1/insights/?fields={}&access_token=t"
    found = [
        classify(head(target.format(fields)), b"", HOSTS, rules)
        for fields in ("reach%2Cspend", '["spend"]', "spend,clicks", "")
    ]
    assert [each.request.channel for each in found if isinstance(each, Read)] == [
        Channel.DIRECT, Channel.DIRECT, Channel.BATCH, Channel.BATCH,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "target, host, expected",
    [
        ("/me", "", GRAPH),
        ("/me", "sidecar:8080", GRAPH),
        ("/me", INSTAGRAM, INSTAGRAM),
        ("/me", "Graph.Instagram.COM", INSTAGRAM),
        ("/me", f"{INSTAGRAM}:443", INSTAGRAM),
        (f"http://{INSTAGRAM}:80/me", "sidecar", INSTAGRAM),
        (f"http://{INSTAGRAM}:8080/me", "sidecar", GRAPH),
        ("http://evil.example/me", INSTAGRAM, GRAPH),
    ],
)
def test_which_host(target: str, host: str, expected: str) -> None:
    """A caller reaches one of Graph's hosts by its name, with or without the usual port; else the origin."""
    assert HOSTS.of(head(target, host=host)) == expected
    assert HOSTS.of(head(target, host=host)) in {GRAPH, INSTAGRAM}


@pytest.mark.parametrize(
    "host, by_name",
    [(GRAPH, True), (INSTAGRAM, True), ("graph.beta.facebook.com", True), ("sidecar:8080", False), ("", False)],
)
def test_who_comes_by_graphs_own_name(host: str, by_name: bool) -> None:  # noqa: FBT001
    """Links are left alone for callers to whom Graph's name already leads here."""
    assert HOSTS.by_name(head("/me", host=host)) is by_name


@pytest.mark.parametrize(
    "origin, host, reads, batches",
    [
        (GRAPH, GRAPH, True, True),
        (GRAPH, INSTAGRAM, True, False),
        (GRAPH, UPLOADS, False, False),
        ("emulator:9000", "emulator:9000", True, True),
        ("emulator:9000", INSTAGRAM, True, False),
        (INSTAGRAM, INSTAGRAM, True, False),
    ],
)
def test_what_a_host_takes(origin: str, host: str, reads: bool, batches: bool) -> None:  # noqa: FBT001
    """Only hosts that are known to take batches get them, and upload hosts are not read through the cache."""
    hosts = GraphHosts(origin, frozenset({INSTAGRAM, UPLOADS}))
    assert (hosts.takes_reads(host), hosts.takes_batches(host)) == (reads, batches)
    assert {origin, GRAPH, INSTAGRAM} <= hosts.link_hosts


def test_the_request() -> None:
    """Host, version, language and wishes are taken from the head; nothing else of it is."""
    found = plain(
        "/v25.0/me?a=1", host=INSTAGRAM, accept_language=" da ", cache_control="no-cache", user_agent="x"
    ).request
    assert (found.host, found.version, found.path, found.query) == (INSTAGRAM, "v25.0", "/me", "a=1")
    assert (found.language, found.directives, found.validator) == ("da", CacheDirectives(no_cache=True), "")


# --- JSONP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", ["", "cb", "a.b.c", "cb[0]", "cb[0].x[12]", "$", "_a$1", "jQuery123_456"])
def test_callbacks(callback: str) -> None:
    """A path of JavaScript identifiers may be called; it is no part of what is read."""
    found = plain(f"/me?callback={callback}&a=1")
    assert (found.callback, found.request.query) == (callback, "a=1")


@pytest.mark.parametrize(
    "callback",
    [
        "alert(1)",
        "a;b",
        "a b",
        "1a",
        "a.",
        ".a",
        "a[x]",
        "a[0",
        "a..b",
        "<script>",
        "a%0A",
        "æ",
        "a[1234567890]",
        "a/**/",
    ],
)
def test_callbacks_that_are_none(callback: str) -> None:
    """Anything that is not a path of identifiers is refused, for it would run in the caller's page."""
    with pytest.raises(BadRequest, match="callback"):
        asked(f"/me?callback={callback}")


def test_a_long_callback_is_judged_at_once() -> None:
    """No callback takes longer to judge than to read."""
    with pytest.raises(BadRequest):
        asked(f"/me?callback={'a.' * 20_000}")


# --- what a caller may ask of a cache ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, NO_DIRECTIVES),
        ({"cache-control": ""}, NO_DIRECTIVES),
        ({"cache-control": "nothing-to-see-here", "pragma": "foo"}, NO_DIRECTIVES),
        ({"cache-control": "No-Cache"}, CacheDirectives(no_cache=True)),
        ({"cache-control": "no-store , max-age = 5"}, CacheDirectives(no_store=True, max_age=5)),
        ({"cache-control": "only-if-cached,max-age=0"}, CacheDirectives(only_if_cached=True, max_age=0)),
        ({"cache-control": 'max-age="60"'}, CacheDirectives(max_age=60)),
        ({"cache-control": "max-age=0, max-age=60"}, CacheDirectives(max_age=0)),
        ({"cache-control": "max-age"}, CacheDirectives(max_age=0)),
        ({"cache-control": "max-age=-1"}, CacheDirectives(max_age=0)),
        ({"cache-control": "max-age=1.5"}, CacheDirectives(max_age=0)),
        ({"cache-control": "max-age=٣"}, CacheDirectives(max_age=0)),
        ({"cache-control": "max-age=007"}, CacheDirectives(max_age=7)),
        ({"cache-control": "max-age=9999999999"}, CacheDirectives(max_age=2**31)),
        ({"cache-control": f"max-age={'9' * 60_000}"}, CacheDirectives(max_age=2**31)),
        ({"cache-control": f"max-age={'0' * 60_000}1"}, CacheDirectives(max_age=1)),
        ({"cache-control": "min-fresh=5, max-stale=6"}, CacheDirectives(min_fresh=5, max_stale=6)),
        ({"cache-control": "min-fresh=x, max-stale=x"}, CacheDirectives(min_fresh=2**31, max_stale=0)),
        ({"cache-control": "max-stale"}, CacheDirectives(max_stale=2**31)),
        ({"cache-control": "max-stale, max-stale=1"}, CacheDirectives(max_stale=2**31)),
        ({"cache-control": "stale-if-error=60"}, CacheDirectives(stale_if_error=60)),
        ({"cache-control": "stale-if-error"}, CacheDirectives(stale_if_error=0)),
        ({"pragma": "no-cache"}, CacheDirectives(no_cache=True)),
        ({"pragma": "x, No-Cache"}, CacheDirectives(no_cache=True)),
        ({"pragma": "no-cache", "cache-control": "max-age=5"}, CacheDirectives(max_age=5)),
        ({"if-none-match": 'W/"a", "b"'}, CacheDirectives(if_none_match='W/"a", "b"')),
    ],
)
def test_wishes(fields: dict[str, str], expected: CacheDirectives) -> None:
    """Cache-Control, Pragma and If-None-Match are understood; a number that is none wants nothing old."""
    assert cache_directives(fields) == expected


@pytest.mark.parametrize(
    "tags, etag, same",
    [
        ('"a"', '"a"', True),
        ('W/"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('"b", W/"a" ,"c"', '"a"', True),
        ('"b","a"', '"a"', True),
        ('"a,b"', '"a,b"', True),
        ('"a,b"', '"a"', False),
        ('"x", "a, b", "y"', '"a, b"', True),
        (" * ", '"a"', True),
        ('"*"', '"a"', False),
        ('"b", *', '"a"', False),
        ('"A"', '"a"', False),
        ("a", '"a"', False),
        ('"a', '"a"', False),
        ("", '"a"', False),
        ('""', '""', True),
    ],
)
def test_if_none_match(tags: str, etag: str, same: bool) -> None:  # noqa: FBT001
    """Tags are compared weakly, in lists whose tags may hold commas; `*` is any."""
    assert matches(tags, etag) is same


tag_texts = st.text("abc, *W/", max_size=6)


@given(st.lists(st.tuples(st.booleans(), tag_texts), min_size=1, max_size=5), tag_texts)
def test_lists_of_tags(listed: list[tuple[bool, str]], wanted: str) -> None:
    """A caller gets 304 exactly if the tag of what is held is among its own."""
    spelled = ", ".join(f'{"W/" if weak else ""}"{text}"' for weak, text in listed)
    assert matches(spelled, f'"{wanted}"') is (wanted in [text for _, text in listed])


@pytest.mark.parametrize(
    "verb, target, has_body, expected",
    [
        ("GET", "/111?fields=id", False, False),
        ("HEAD", "/111", False, False),
        ("GET", "/111?method=get", False, False),
        ("GET", "/111?method=delete", False, True),
        ("GET", "/111?m%65thod=delete", False, True),
        ("GET", "/111?method%00x=delete", False, True),
        ("GET", "/111", True, True),
        ("POST", "/111?method=get", False, True),
        ("DELETE", "/111", False, True),
        ("OPTIONS", "/111?method=delete", False, False),
    ],
)
def test_what_may_write(verb: str, target: str, has_body: bool, expected: bool) -> None:  # noqa: FBT001
    """Only what is clearly a read may be sent again when nobody knows what became of it."""
    assert may_write(verb, target, has_body=has_body) is expected
