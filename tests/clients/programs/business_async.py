"""Has ads and batches carried out later, and looks until they are: business_async.py URL TOKEN."""

import json
import sys
from typing import Any

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adasyncrequest import AdAsyncRequest
from facebook_business.adobjects.adasyncrequestset import AdAsyncRequestSet
from facebook_business.adobjects.adset import AdSet
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

POLLS = 10
COUNTS = ["total_count", "initial_count", "in_progress_count", "success_count", "error_count"]
PROGRESS = ["name", "is_completed", "notification_mode", *COUNTS]
ADS = [
    {"adset_id": "5", "name": "Søn & dagen"},
    {"adset_id": "404001", "name": "lost"},
    {"adset_id": "6", "name": "three"},
]
STEPS = [
    {"method": "POST", "name": "c", "relative_url": "act_1/campaigns", "body": "name=C&status=PAUSED"},
    {"method": "POST", "name": "s", "relative_url": "act_1/adsets", "body": "name=S&campaign_id={result=c:$.id}"},
]

url, token = sys.argv[1:]
FacebookSession.GRAPH = url
api = FacebookAdsApi.init("999", "SEC", token, crash_log=False)
account = AdAccount("act_1")


def tell(*values: Any) -> None:
    """One line of JSON."""
    print(json.dumps(values, sort_keys=True))


def tell_data(what: str, found: Any) -> None:
    """Tell an object, or all that an edge lists."""
    tell(
        what, found.export_all_data() if hasattr(found, "export_all_data") else [one.export_all_data() for one in found]
    )


def requests_of(made: AdAsyncRequestSet, **params: Any) -> Any:
    """The requests of a set, page by page."""
    return made.get_requests(fields=["status", "result", "input"], params={"limit": 2, **params})


def tell_life(made: AdAsyncRequestSet) -> None:
    """Tell each state of a set until it is done, and each state of its requests."""
    for _ in range(POLLS):
        now = AdAsyncRequestSet(made["id"]).api_get(fields=PROGRESS)
        tell_data("set", now)
        tell_data("requests", requests_of(made))
        tell_data("done", requests_of(made, statuses=[AdAsyncRequest.Statuses.success]))
        if now["is_completed"]:
            return


def ads_later() -> None:
    """A set of ads: renamed, told where to call, watched, filtered."""
    made = account.create_async_ad_request_set(
        params={"name": "set1", "ad_specs": ADS, "notification_mode": AdAsyncRequestSet.NotificationMode.off}
    )
    tell_data("made", made)
    tell_data("before", made.api_get(fields=PROGRESS))
    tell_data("renamed", made.api_update(params={"name": "set2", "notification_mode": "ON_COMPLETE"}))
    tell_life(made)
    tell_data("failed", requests_of(made, statuses=[AdAsyncRequest.Statuses.error]))
    tell_data("of the ad set", AdSet("5").get_async_ad_requests(fields=["status"]))


def batch_later() -> None:
    """A batch whose second step names the first, and a look at it from a batch of one's own."""
    taken = account.create_async_batch_request(params={"name": "ab", "adbatch": STEPS})
    made = AdAsyncRequestSet(taken["id"])
    for _ in range(2):
        batch = api.new_batch()
        AdAsyncRequestSet(made["id"]).api_get(
            fields=["is_completed", "success_count"], batch=batch, success=lambda reply: tell("ridden", reply.json())
        )
        account.api_get(fields=["name"], batch=batch, success=lambda reply: tell("beside", reply.json()))
        batch.execute()
    tell_life(made)


def canceled() -> None:
    """One request of a set, and then the set."""
    made = account.create_async_ad_request_set(params={"name": "idle", "ad_specs": ADS})
    *_, last = requests_of(made)
    tell_data("before", AdAsyncRequest(last["id"]).api_get(fields=["status"]))
    tell_data("canceled", AdAsyncRequest(last["id"]).api_delete())
    tell_data("after", AdAsyncRequest(last["id"]).api_get(fields=["status"]))
    tell_data("canceled", made.api_delete())
    tell_data("after", requests_of(made))


ads_later()
batch_later()
canceled()
for done in (True, False):
    sets = account.get_async_ad_request_sets(fields=["name", "is_completed"], params={"is_completed": done})
    tell_data("sets", sets)
tell_data("all", account.get_async_requests(fields=["type", "status"], params={"limit": 5}))
