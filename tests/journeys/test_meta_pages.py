"""Every request on Meta's own pages about batches, sent directly to one Graph and through the sidecar to its twin.

The pages are "Batch Requests" of the Graph API (developers.facebook.com/docs/graph-api/batch-requests) and
"Asynchronous and Batch Requests" of the Marketing API, the latter as it stood for v2.11, v21.0 and v25.0. What is left
open there is filled in; what is misspelled there is sent misspelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.journeys.conftest import MakeTwins
from tests.journeys.operating import Item, assert_alike, batch, bodies, changes, codes, multipart, seen, slots, written
from tests.journeys.talking import Ask, Heard, Twins

GRAPH_PAGE = "Batch Requests"
ADS_PAGE = "Asynchronous and Batch Requests"
VERSIONS = ("v2.11", "v21.0", "v25.0")

IMAGES = {"test1": ("test1.jpg", b"\xff\xd8 one"), "test2": ("test2.jpg", b"\xff\xd8 two")}
PHOTOS = {"file1": ("cat.gif", b"GIF89a cat"), "file2": ("dog.jpg", b"\xff\xd8 dog")}
AD_SET = "6004163746239"


@dataclass(frozen=True)
class Example:
    """A request as a page shows it, and what must come back."""

    page: str
    title: str
    must: Callable[[Heard], bool]
    method: str = "GET"
    path: str = "/"
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def slots_are(*expected: int | None) -> Callable[[Heard], bool]:
    """An array with these codes, in order."""
    return lambda heard: heard.status == 200 and codes(heard.json) == list(expected)


def is_object(*names: str) -> Callable[[Heard], bool]:
    """One JSON object that has these members."""
    return lambda heard: heard.status == 200 and set(names) <= set(heard.json)


def is_page(heard: Heard) -> bool:
    """A list of objects."""
    return heard.status == 200 and isinstance(heard.json["data"], list)


def is_true(heard: Heard) -> bool:
    """The word `true`."""
    return heard.status == 200 and heard.json is True


def is_refused(heard: Heard) -> bool:
    """Graph's refusal of the whole."""
    return heard.status == 400 and heard.json["error"]["type"] == "GraphBatchException"


def ad(number: str, creative: str, countries: str = "US", **more: str) -> Item:
    """An operation that creates an ad from a creative; the doubled `&` is Meta's."""
    rest = "".join(f"{name}={value}&" for name, value in more.items())
    target = json.dumps({"countries": [countries]})
    return {
        "method": "POST",
        "relative_url": "VERSION/act_187687683/ads",
        "body": f"adset_id={AD_SET}&redownload=1&status=PAUSED"
        f"&optimization_goal=REACH&billing_event=IMPRESSIONS&&{rest}"
        f"creative={creative}&targeting={target}&name={number}",
    }


CREATED = json.dumps({"creative_id": "{result=create_creative:$.id}"})
STORY = {
    "link_data": {
        "image_hash": "{result=create_adimage:$.images.*.hash}",
        "link": "https://www.test12345.com",
        "message": "this is a sample message",
    },
    "page_id": "12345678",
}
FEATURES = {"creative_features_spec": {"standard_enhancements": {"enroll_status": "OPT_OUT"}}}
ADS_WITH_IMAGE: list[Item] = [
    {
        "method": "POST",
        "name": "create_adimage",
        "relative_url": "VERSION/act_187687683/adimages",
        "attached_files": "test1",
    },
    {
        "method": "POST",
        "name": "create_creative",
        "relative_url": "VERSION/act_187687683/adcreatives",
        "attached_files": "test1",
        "body": f"name=sample creative&object_story_spec={json.dumps(STORY)}"
        f"&degrees_of_freedom_spec={json.dumps(FEATURES)}",
    },
    *(ad(f"test{number}", CREATED) for number in (1, 2, 3)),
]
ADS_WITH_CREATIVE: list[Item] = [
    {
        "method": "POST",
        "name": "create_creative",
        "relative_url": "VERSION/act_187687683/adcreatives",
        "attached_files": "test1",
        "body": "title=Test title&body=Test body&link_url=http://www.test12345.com&image_file=test1.jpg",
    },
    *(ad(f"test{at}", CREATED, land, bid_amount="150") for at, land in ((1, "US"), (2, "GB"), (3, "IE"))),
]
ADS_WITH_IMAGES: list[Item] = [
    {
        **ad(
            f"test{at}",
            json.dumps(
                {
                    "title": f"Test title {at}",
                    "body": f"Test body {at}",
                    "object_url": "https://apps.facebook.com/testapp/",
                    "image_file": f"{image}.jpg",
                }
            ),
        ),
        "attached_files": image,
    }
    for at, image in ((1, "test1"), (2, "test2"), (3, "test1"))
]


def updates(body: str) -> list[Item]:
    """Three ads that change."""
    ids = ("6004251715639", "6004251716039", "6004251715839")
    return [{"method": "POST", "relative_url": f"VERSION/{node}", "body": body} for node in ids]


def reads(*urls: str) -> list[Item]:
    """Operations that read, of the page's own version."""
    return [{"method": "GET", "relative_url": f"VERSION/{url}"} for url in urls]


READ_ADS = reads(
    "?ids=6003356308839,6004164369439&fields=id,name",
    "6003356307839/ads&fields=id,name",  # the page has no `?` here
    "act_187687683/ads?adset_ids=[6003356307839, 6004164259439]&fields=id,name",
)
INSIGHTS = reads(
    "act_19643108/insights?filtering=[{field:'ad.id',operator:'IN',value:[6003356308839,6004164369439]}]",
    "6003356308839/insights",
    "act_187687683/insights?filtering=[{field:'adset.id',operator:'IN',value:[6003356307839, 6004164259439]}]",
)
ESTIMATES = reads(
    "act_600335/reachestimate?targeting_spec={'geo_locations': {'countries':['US']}}",
    "act_600335/reachestimate?targeting_spec={'geo_locations': {'countries':['FR']}}",
)
OLD_ESTIMATES = reads("6003356308839/reachestimate", "6004164369439/reachestimate", "6004017499039/reachestimate")
OLD_SPECS = reads(
    "act_600335/reachestimate?currency=USD&targeting_spec={'countries':['US']}",
    "act_600335/reachestimate?currency=USD&targeting_spec={'countries':['FR']}",
    "act_600335/reachestimate?currency=USD&targeting_spec={'countries':['US'],'zips':['94402']}",
)
ETAGS: list[Item] = [
    {"method": "GET", "relative_url": "?ids=6003356308839,6004164369439"},
    {"method": "GET", "relative_url": "act_12345678/ads?campaign_ids=[6003356307839, 6004164259439]"},
]
ADBATCH = (
    "[ {'name': 'create-campaign', 'relative_url': 'act_123456/campaigns',"
    " 'body': 'name%3DTest+Campaign%26objective%3DLINK_CLICKS%26status%3DPAUSED%26buying_type%3DAUCTION', },"
    " {'name': 'create-adset', 'relative_url': 'act_123456/adsets',"
    " 'body': 'targeting%3D%7B%22geo_locations%22%3A%7B%22countries%22%3A%5B%22US%22%5D%7D%7D%26daily_budget%3D5000"
    "%26campaign_id%3D%7Bresult%3Dcreate-campaign%3A%24.id%7D%26bid_amount%3D2%26name%3DFirst%2BAd%2BSet%20Test"
    "%26billing_event%3DLINK_CLICKS', }, ]"
)
TWO_PHOTOS = (
    '[{"method":"POST","relative_url":"me/photos","body":"message=My cat photo","attached_files":"file1"},'
    '{"method":"POST","relative_url":"me/photos","body":"message=My dog photo","attached_files":"file2"},]'
)
STATUS_AND_FEED: list[Item] = [
    {"method": "POST", "relative_url": "1234/feed", "body": "message=Test status update"},
    {"method": "GET", "relative_url": "1234/feed"},
]
NEW_ADS = "ads=%5B%7B%22name%22%3A%22test_ad%22%2C%22billing_entity_id%22%3A111200774273%7D%5D"
AD_AND_DETAILS: list[Item] = [
    {"method": "POST", "name": "create-ad", "relative_url": "11077200629332/ads", "body": NEW_ADS},
    {"method": "GET", "relative_url": "?ids={result=create-ad:$.data.*.id}"},
]
TWO_PAGES: list[Item] = [{"method": "GET", "relative_url": "1001"}, {"method": "GET", "relative_url": "1002"}]


def ads_batch(
    title: str, items: list[Item] | str, must: Callable[[Heard], bool], **files: tuple[str, bytes]
) -> Example:
    """A batch of the Marketing API's page: a multipart form, posted to the bare root."""
    text = items if isinstance(items, str) else json.dumps(items)
    return Example(ADS_PAGE, title, must, "POST", "/", form={"batch": text}, files=files)


def ads_read(title: str, path: str, must: Callable[[Heard], bool], **query: str) -> Example:
    """A read of the Marketing API's page."""
    return Example(ADS_PAGE, title, must, "GET", f"/VERSION{path}", query=query)


EVERYWHERE = [
    ads_read(
        "status of a set",
        "/SET",
        is_object("name", "is_completed"),
        fields="name,success_count,error_count,is_completed",
    ),
    ads_read("its requests", "/SET/requests", is_page, fields="id,status"),
    ads_read("a request", "/REQUEST", is_object("id", "status"), fields="id,status"),
    ads_read("sets of an account", "/act_71597454/asyncadrequestsets", is_page),
    ads_read("requests of an ad set", "/6008248529789/asyncadrequests", is_page, fields="id,status"),
    ads_read("a set by its id", "/", is_object("id", "owner_id", "name", "is_completed"), id="SET", pretty="true"),
    ads_read("results", "/requests", is_page, id="SET", pretty="true", fields="result"),
    ads_read("completed sets", "/act_71597454/asyncadrequestsets", is_page, is_completed="1", pretty="true"),
    ads_read("ended requests", "/6008248529789/asyncadrequests", is_page, status="SUCCESS,ERROR", pretty="true"),
    ads_read("all the set says", "/SET", is_object("total_count"), fields="id,owner_id,name,total_count,success_count"),
    ads_read("sets of batches", "/act_71597454/async_requests", is_page),
    Example(
        ADS_PAGE,
        "change a set",
        is_true,
        "POST",
        "/VERSION/SET",
        form={"name": "New Name", "notification_mode": "OFF"},
        files={},
    ),
    Example(ADS_PAGE, "cancel a set", is_true, "DELETE", "/VERSION/SET", form={}),
    ads_batch("update ads", updates("redownload=1&name=new name"), slots_are(200, 200, 200)),
    ads_batch(
        "update ads, as printed",
        json.dumps(updates("redownload=1&name=new name")).replace('"VERSION/6004251716039', "VERSION/v6004251716039"),
        is_refused,
    ),
    ads_batch("read ads", READ_ADS, slots_are(200, 400, 200)),
    ads_batch("insights", INSIGHTS, slots_are(200, 200, 200)),
    ads_batch("etags, step 1", ETAGS, slots_are(200, 200)),
    Example(
        ADS_PAGE,
        "a batch for later",
        is_object("id"),
        "POST",
        "/VERSION/act_123456/async_batch_requests",
        form={"name": "batchapiexample", "adbatch": ADBATCH},
        files={},
    ),
]
LATER = [  # v21.0 and v25.0
    ads_batch("create ads", ADS_WITH_IMAGE, slots_are(None, None, 200, 200, 200), test1=IMAGES["test1"]),
    ads_batch("reach estimates", ESTIMATES, slots_are(400, 400)),  # an edge that the emulator does not have
]
EARLIER = [  # v2.11
    ads_batch("create ads", ADS_WITH_CREATIVE, slots_are(None, 200, 200, 200), test1=IMAGES["test1"]),
    ads_batch("ads with two images", ADS_WITH_IMAGES, slots_are(200, 200, 200), **IMAGES),
    ads_batch("update bids", updates("redownload=1&bid_amount=100"), slots_are(200, 200, 200)),
    ads_batch("reach estimates of ads", OLD_ESTIMATES, slots_are(400, 400, 400)),
    ads_batch("reach estimates of specs", OLD_SPECS, slots_are(400, 400, 400)),
]
BATCH_PAGE = [
    Example(
        GRAPH_PAGE,
        "two Pages",
        slots_are(200, 200),
        "POST",
        "/me",
        query={"batch": json.dumps(TWO_PAGES, indent=2), "include_headers": "false"},
    ),
    Example(
        GRAPH_PAGE,
        "a post and the feed, as meant",
        slots_are(200, 200),
        "POST",
        "/1234",
        query={"batch": json.dumps(STATUS_AND_FEED, indent=2)},
    ),
    Example(
        GRAPH_PAGE,
        "a post and the feed, as printed",  # without -X POST, curl makes a GET of it: the Page alone
        is_object("id"),
        "GET",
        "/1234",
        query={"batch": json.dumps(STATUS_AND_FEED, indent=2)},
    ),
    Example(
        GRAPH_PAGE,
        "a new ad and its details",
        slots_are(None, 200),
        "POST",
        form={"batch": json.dumps(AD_AND_DETAILS)},
        files={},
    ),
    Example(
        GRAPH_PAGE,
        "errors",
        slots_are(400, 200),
        "POST",
        form={"batch": json.dumps([{"method": "GET", "relative_url": "err1"}, TWO_PAGES[0]])},
        files={},
    ),
    Example(
        GRAPH_PAGE,
        "JSONP",
        lambda heard: heard.body.startswith(b"/**/ got([{"),
        "POST",
        form={"batch": json.dumps(TWO_PAGES), "callback": "got"},
        files={},
    ),
    Example(
        GRAPH_PAGE,
        "several tokens",
        slots_are(200, 200),
        "POST",
        form={"batch": json.dumps([{"method": "GET", "relative_url": "me?access_token=bob"}, TWO_PAGES[0]])},
        files={},
    ),
    Example(GRAPH_PAGE, "two photos", slots_are(200, 200), "POST", form={"batch": TWO_PHOTOS}, files=PHOTOS),
]
TABLE = [
    *((example, version) for version in VERSIONS for example in EVERYWHERE),
    *((example, version) for version in VERSIONS[1:] for example in LATER),
    *((example, VERSIONS[0]) for example in EARLIER),
    *((example, "") for example in BATCH_PAGE),
]


@pytest.mark.parametrize("example, version", TABLE, ids=str)
async def test_what_the_pages_show(twins: MakeTwins, example: Example, version: str) -> None:
    """Each request on Meta's pages gets the answer that Graph itself gives, first and when it is asked again."""
    both = await twins()
    filled = await prepared(both, version)
    for _time in range(2):
        direct, through = await send(both.direct, example, filled), await send(both.through, example, filled)
        assert example.must(through), through.body
        assert through.status == direct.status
        assert seen(through, both) == seen(direct, both)
        assert changes(both.behind) == changes(both.alone)
        assert written(both.behind) == written(both.alone)


async def test_cancel_a_request(twins: MakeTwins) -> None:
    """One request of a set is canceled as the page says, once: then it is not open any more."""
    both = await twins()
    filled = await prepared(both, "v25.0")
    cancel = Example(ADS_PAGE, "cancel a request", is_true, "DELETE", "/VERSION/REQUEST", form={})
    for must in (is_true, lambda heard: heard.status == 400):
        direct, through = await send(both.direct, cancel, filled), await send(both.through, cancel, filled)
        assert must(through)
        assert seen(through, both) == seen(direct, both)
        assert changes(both.behind) == changes(both.alone)


async def test_etags_of_a_call(twins: MakeTwins) -> None:
    """The validator that a read is answered with gets 304 and no body, as the page's second step shows."""
    both = await twins()
    for ask in (both.direct, both.through):
        first = await ask.say("/me/adaccounts", token="ann")
        second = await ask.say("/me/adaccounts", token="ann", headers={"If-None-Match": first.etag})
        assert (first.status, second.status, second.body) == (200, 304, b"")


async def test_etags_of_a_batch(twins: MakeTwins) -> None:
    """The validators that a batch is answered with get 304 and `"body": null` in the page's second step."""
    both = await twins()
    for ask in (both.direct, both.through):
        tags = [
            next(each["value"] for each in slot["headers"] if each["name"] == "ETag")
            for slot in await slots(ask, ETAGS, path="/")
        ]
        again = [{**item, "headers": [f"If-None-Match: {tag}"]} for item, tag in zip(ETAGS, tags, strict=True)]
        heard = await batch(ask, again, path="/")
        assert [(slot["code"], slot["body"]) for slot in heard.json] == [(304, None), (304, None)]


async def test_a_partly_completed_batch(twins: MakeTwins) -> None:
    """What the page says to retry, the sidecar has retried: a read that Graph left out comes back filled."""
    both = await twins()
    both.trouble({"kind": "null", "id": "1002", "count": 1})
    direct, through = await batch(both.direct, TWO_PAGES), await batch(both.through, TWO_PAGES)
    assert codes(direct.json) == [200, None]
    again = await batch(both.direct, TWO_PAGES)
    assert bodies(through.json) == bodies(again.json)
    assert_alike(both, again, await batch(both.through, TWO_PAGES))


# --- what is filled in ------------------------------------------------------------------------------------------------


async def prepared(twins: Twins, version: str) -> dict[str, str]:
    """What stands in the place of the pages' own words: both worlds have one request set, which is not final yet."""
    specs = json.dumps([{"adset_id": "6008248529789", "name": f"ad {number}"} for number in range(4)])
    form = {"name": "testasyncset", "ad_specs": specs, "access_token": "ann"}
    made = [
        (await ask.say("/v25.0/act_71597454/asyncadrequestsets", method="POST", data=form)).json["id"]
        for ask in (twins.direct, twins.through)
    ]
    assert made[0] == made[1]
    (group,) = twins.alone.emulator.graph.async_jobs.groups.values()
    return {"VERSION": version, "SET": made[0], "REQUEST": group.requests[-1].id}


async def send(ask: Ask, example: Example, filled: Mapping[str, str]) -> Heard:
    """Make the example's request as curl would: `-G` a query, `-d` a form, `-F` a multipart form."""
    query = {name: fill(value, filled) for name, value in example.query.items()}
    form = {name: fill(value, filled) for name, value in (example.form or {}).items()}
    (query if example.form is None else form)["access_token"] = "ann"
    data: Any = form or None
    if example.files is not None:
        data = multipart(form, example.files)
    target = fill(example.path, filled) + (f"?{urlencode(query)}" if query else "")
    return await ask.say(target, method=example.method, data=data)


def fill(text: str, filled: Mapping[str, str]) -> str:
    """*text* with the pages' own words replaced."""
    for word, value in filled.items():
        text = text.replace(word, value)
    return text
