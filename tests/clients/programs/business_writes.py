"""Creates, changes and deletes a campaign, uploads an image, and reads in between.

business_writes.py URL TOKEN IMAGE
"""

import json
import sys
from typing import Any

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adimage import AdImage
from facebook_business.adobjects.campaign import Campaign
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

url, token, image = sys.argv[1:]


def tell(value: Any) -> None:
    """One line of JSON."""
    print(json.dumps(value, sort_keys=True))


def names() -> list[str]:
    """The names on the first page of the account's campaigns."""
    page = account.get_campaigns(fields=["name"], params={"limit": 3})
    return [page[place]["name"] for place in range(len(page))]


FacebookSession.GRAPH = url
FacebookAdsApi.init("999", "SEC", token, crash_log=False)
account = AdAccount("act_1")

tell(names())
made = account.create_campaign(
    params={
        "name": "Søn & dagen = 100 % +",
        "objective": "OUTCOME_TRAFFIC",
        "status": "PAUSED",
        "special_ad_categories": [],
    }
)
tell(names())

campaign = Campaign(made["id"])
tell(campaign.api_get(fields=["name", "status"]).export_all_data())
tell(campaign.api_update(params={"name": "東京"}).export_all_data())
tell(campaign.api_get(fields=["name", "status"]).export_all_data())
tell(campaign.api_delete().export_all_data())
try:
    campaign.api_get(fields=["name", "status"])
except FacebookRequestError as error:
    tell([error.api_error_code(), error.api_error_subcode()])

uploaded = AdImage(parent_id="act_1")
uploaded[AdImage.Field.filename] = image
uploaded.remote_create()
tell(uploaded.export_all_data())
