"""Has a report made, polls it until it is done, and reads its rows: business_report.py URL TOKEN."""

import json
import sys

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

POLLS = 10

url, token = sys.argv[1:]

FacebookSession.GRAPH = url
FacebookAdsApi.init("999", "SEC", token, crash_log=False)

report = AdAccount("act_1").get_insights(
    fields=["impressions", "spend", "campaign_id"],
    params={"level": "campaign", "date_preset": "last_7d", "time_increment": 1, "limit": 5},
    is_async=True,
)
for _ in range(POLLS):
    report = report.api_get()
    print(json.dumps([report["async_status"], report["async_percent_completion"]]))
    if report["async_status"] == "Job Completed":
        break
for row in report.get_result(params={"limit": 5}):
    print(json.dumps(row.export_all_data(), sort_keys=True))
