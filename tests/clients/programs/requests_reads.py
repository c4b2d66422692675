"""Reads and a write as a small script does them with requests.

requests_reads.py URL TOKEN
"""

import json
import sys
from typing import Any

import requests

url, token = sys.argv[1:]
session = requests.Session()


def tell(reply: requests.Response) -> Any:
    """Status, type and body on a line; the body."""
    body = reply.json()
    print(json.dumps([reply.status_code, reply.headers["Content-Type"], body], sort_keys=True))
    return body


tell(session.get(f"{url}/v25.0/me", params={"fields": "id,name", "access_token": token}))
page = tell(session.get(f"{url}/v25.0/act_1/campaigns", params={"limit": "4", "access_token": token}))
while "next" in page.get("paging", {}):
    page = tell(session.get(page["paging"]["next"]))
for _ in range(2):
    tell(session.get(f"{url}/v25.0/1001", headers={"Authorization": f"Bearer {token}"}))
tell(session.get(f"{url}/v25.0/404001", params={"access_token": token}))
tell(session.post(f"{url}/v25.0/1001", data={"name": "Søn & co", "access_token": token}))
batch = [{"method": "GET", "relative_url": "1001?fields=name"}, {"method": "GET", "relative_url": "404001"}]
answers = session.post(f"{url}/v25.0/", data={"batch": json.dumps(batch), "access_token": token}).json()
print(json.dumps([[each["code"], json.loads(each["body"])] for each in answers], sort_keys=True))
