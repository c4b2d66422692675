"""Lets Meta's own Python SDK run the life of async sets: async_sets.py URL.

Prints a JSON object a line; what a caller polls for is polled until it is there.
"""

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

FacebookSession.GRAPH = sys.argv[1]
api = FacebookAdsApi.init("999", "SEC", "TOK", crash_log=False)
account = AdAccount("act_1")
Field = AdAsyncRequestSet.Field


def tell(**said: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(said, sort_keys=True) + "\n")


def completed(set_id: str) -> AdAsyncRequestSet:
    """The set, polled to its end."""
    request_set = AdAsyncRequestSet(set_id)
    for _ in range(POLLS):
        request_set.api_get(fields=[Field.name, Field.is_completed, Field.success_count, Field.error_count])
        if request_set[Field.is_completed]:
            break
    return request_set


def requests_of(set_id: str, **params: Any) -> list[Any]:
    """Its requests with their results."""
    fields = [AdAsyncRequest.Field.status, AdAsyncRequest.Field.result]
    return [each.export_all_data() for each in AdAsyncRequestSet(set_id).get_requests(fields=fields, params=params)]


SPECS = [{"adset_id": "5", "name": "a1"}, {"adset_id": "404001", "name": "a2"}]
made = account.create_async_ad_request_set(
    params={"name": "set1", "ad_specs": SPECS, "notification_mode": AdAsyncRequestSet.NotificationMode.off}
)
made.api_update(params={"name": "set2"})
ads = completed(made["id"])
tell(name=ads["name"], good=ads["success_count"], bad=ads["error_count"])
good = requests_of(made["id"], statuses=[AdAsyncRequest.Statuses.success])
tell(results=good, of_ad_set=[each["id"] for each in AdSet("5").get_async_ad_requests()])
one = AdAsyncRequest(good[0]["id"]).api_get(fields=["input", "async_request_set"])
tell(input=dict(one["input"]), set=one["async_request_set"]["name"])
tell(ad=AdSet(good[0]["result"]["id"]).api_get(fields=["name"])["name"])

BATCH = [
    {"name": "c", "relative_url": "act_1/campaigns", "body": "name=C&status=PAUSED", "method": "POST"},
    {"name": "s", "relative_url": "act_1/adsets", "body": "name=S&campaign_id={result=c:$.id}", "method": "POST"},
]
batch = account.create_async_batch_request(params={"name": "ab", "adbatch": BATCH})
completed(batch["id"])
campaign, ad_set = (each["result"]["id"] for each in requests_of(batch["id"]))
tell(refers=AdSet(ad_set).api_get(fields=["campaign_id"])["campaign_id"] == campaign)

idle = account.create_async_ad_request_set(params={"name": "idle", "ad_specs": SPECS})
idle.api_delete()
tell(canceled=[each["status"] for each in requests_of(idle["id"])])
tell(sets=[each["name"] for each in account.get_async_ad_request_sets(params={"is_completed": True})])
kinds = account.get_async_requests(fields=["type"], params={"limit": 5, "status": "FINISHED", "type": "BATCH_API"})
tell(finished=len(kinds))

pending = account.create_ad_set(params={"name": "later", "campaign_id": campaign}, pending=True)
riding = api.new_batch()
answers: list[Any] = []
riding.add_request(pending, success=lambda reply: answers.append(reply.json()))
AdAsyncRequestSet(made["id"]).api_get(batch=riding, success=lambda reply: answers.append(reply.json()))
riding.execute()
tell(ridden=[sorted(each) for each in answers])
