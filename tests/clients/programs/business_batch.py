"""Sends batches and tells what each operation got: business_batch.py URL TOKEN WHAT [ARGUMENT].

`reads` COUNT of objects and edges; `mixed` with mistakes and writes; `chain` COUNT, operations that name others across
so many that do not; `files` IMAGE; `validators` of its own; `report` polled in batches. What a batch leaves unanswered
is sent again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adreportrun import AdReportRun
from facebook_business.adobjects.campaign import Campaign
from facebook_business.api import FacebookAdsApi, FacebookAdsApiBatch
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

POLLS = 10

url, token, what, *arguments = sys.argv[1:]
FacebookSession.GRAPH = url
api = FacebookAdsApi.init("999", "SEC", token, crash_log=False)
account = AdAccount("act_1")
answers: list[Any] = []


def tell(*values: Any) -> None:
    """One line of JSON."""
    print(json.dumps(values, sort_keys=True))


def good(response: Any) -> None:
    """Tell an answer, with the header fields that a program may look at, and remember it."""
    fields = {field["name"].lower(): field["value"] for field in response.headers()}
    shown = [fields.get(name) for name in ("content-type", "x-app-usage")]
    whole = [fields.get("facebook-api-version"), "etag" in fields] if response.status() == 200 else []
    tell("success", response.status(), response.json(), *shown, *whole)
    answers.append((response.json(), fields))


def bad(response: Any) -> None:
    """Tell an error."""
    error = response.error()
    tell("failure", error.http_status(), error.api_error_code(), error.api_error_subcode(), error.api_error_message())


OURS = {"success": good, "failure": bad}


def send(batch: FacebookAdsApiBatch) -> None:
    """Send a batch, and what was left of it, until nothing is."""
    left = batch
    while left:
        tell("sent", len(left))
        try:
            left = left.execute()
        except FacebookRequestError as error:
            tell("refused", error.http_status(), error.api_error_code(), error.api_transient_error())
            return


def reads() -> None:
    """Many more than Graph takes in one batch, mistakes among them."""
    batch = api.new_batch()
    for place in range(int(arguments[0])):
        campaign = Campaign("404001" if place == 3 else str(1001 + place))
        if place % 10 == 9:
            campaign.get_ad_sets(fields=["name", "viewer"], params={"limit": 2}, batch=batch, **OURS)
        else:
            campaign.api_get(fields=["nonsense"] if place == 4 else [], batch=batch, **OURS)
    send(batch)


def mixed() -> None:
    """The same object twice, one that is not there, and a write; then what it wrote."""
    batch = api.new_batch()
    for node in ("1001", "404001", "1002", "1001"):
        Campaign(node).api_get(fields=["name", "viewer"], batch=batch, **OURS)
    account.create_campaign(params={"name": "Søn & dagen = 100 % +"}, batch=batch, **OURS)
    account.get_campaigns(fields=["name"], params={"limit": 2}, batch=batch, **OURS)
    Campaign("404002").api_update(params={"name": "x"}, batch=batch, **OURS)
    send(batch)


def chain() -> None:
    """Operations that name others; those named are told to answer, for the SDK sends again what stays silent."""
    batch = api.new_batch()
    made = batch.add("POST", ("act_1", "campaigns"), params={"name": "Kæde"}, **OURS)
    made |= {"name": "made", "omit_response_on_success": False}
    for place in range(int(arguments[0])):
        Campaign(str(1001 + place)).api_get(fields=["name"], batch=batch, **OURS)
    batch.add("GET", "{result=made:$.id}", params={"fields": "name,viewer"}, **OURS)
    account.create_ad_set(params={"name": "a", "campaign_id": "{result=made:$.id}"}, batch=batch, **OURS)
    some = batch.add("GET", "act_1/campaigns", params={"fields": "id", "limit": 3}, **OURS)
    some |= {"name": "some", "omit_response_on_success": False}
    batch.add("GET", "", params={"ids": "{result=some:$.data.*.id}", "fields": "name,viewer"}, **OURS)
    send(batch)


def files() -> None:
    """Two images and a read beside them."""
    image = Path(arguments[0])
    batch = api.new_batch()
    with image.open("rb") as one, image.open("rb") as two:
        batch.add("POST", ("act_1", "adimages"), params={"name": "en"}, files={"file0": one}, **OURS)
        batch.add("POST", ("act_1", "adimages"), params={"name": "to"}, files={"file1": two}, **OURS)
        batch.add("GET", ("1001",), params={"fields": "name,viewer"}, **OURS)
        send(batch)


def validators() -> None:
    """Reads, and reads again with the ETags that it got; in between one object changes."""
    nodes = ("1001", "1002")
    asked = {"params": {"fields": "name,viewer"}, **OURS}

    def ask(headers: list[dict[str, str]]) -> None:
        batch = api.new_batch()
        for node, fields in zip(nodes, headers, strict=True):
            batch.add("GET", (node,), headers=fields, **asked)
        send(batch)

    ask([{}, {}])
    held = [{"If-None-Match": fields["etag"]} for _, fields in answers]
    ask(held)
    Campaign("1001").api_update(params={"name": "Nyt navn"})
    ask(held)


def report() -> None:
    """A report that is polled in batches until it is done."""
    run = account.get_insights(fields=["impressions"], params={"level": "campaign"}, is_async=True)
    for _ in range(POLLS):
        batch = api.new_batch()
        AdReportRun(run["id"]).api_get(batch=batch, **OURS)
        Campaign("1001").api_get(fields=["name"], batch=batch, **OURS)
        send(batch)
        if answers[-2][0]["async_status"] == "Job Completed":
            break


{"reads": reads, "mixed": mixed, "chain": chain, "files": files, "validators": validators, "report": report}[what]()
