"""Reads as an ad tool does: an account, its campaigns page by page, what is below them, a report.

business_reads.py URL TOKEN [secret=SECRET] [reversed]
"""

import json
import sys
from typing import Any

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.campaign import Campaign
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

url, token, *options = sys.argv[1:]
secret = next((option.removeprefix("secret=") for option in options if option.startswith("secret=")), None)


def fields(*names: str) -> list[str]:
    """The names in the order of this run."""
    return list(reversed(names)) if "reversed" in options else list(names)


def tell(value: Any) -> None:
    """One line of JSON."""
    print(json.dumps(value, sort_keys=True))


FacebookSession.GRAPH = url
FacebookAdsApi.init("999", secret, token, crash_log=False)

account = AdAccount("act_1")
tell(User("me").api_get().export_all_data())
tell(account.api_get(fields=fields("name", "currency", "account_status", "viewer")).export_all_data())

campaigns = account.get_campaigns(
    fields=fields("name", "objective", "targeting", "viewer"),
    params={"limit": 4, "effective_status": ["ACTIVE", "PAUSED"]},
)
tell({"total": campaigns.total()})
for campaign in campaigns:
    tell(campaign.export_all_data())
    adsets = Campaign(campaign["id"]).get_ad_sets(fields=fields("name", "targeting"), params={"limit": 50})
    tell([adset.export_all_data() for adset in adsets])
for row in account.get_insights(
    fields=fields("impressions", "spend", "actions", "campaign_id"),
    params={"level": "campaign", "date_preset": "last_7d", "time_increment": 1, "limit": 10},
):
    tell(row.export_all_data())
