"""Reads and a write as taps do them: a message is prepared, then `Session.send` reads less of the environment.

requests_prepared.py URL TOKEN
"""

import json
import sys
from typing import Any

import requests

url, token = sys.argv[1:]
session = requests.Session()


def tell(method: str, target: str, **said: Any) -> Any:
    """Send a message; status, type and body on a line; the body."""
    prepared = session.prepare_request(requests.Request(method, target, **said))
    reply = session.send(prepared, timeout=30)
    body = reply.json()
    print(json.dumps([reply.status_code, reply.headers["Content-Type"], body], sort_keys=True))
    return body


page = tell("GET", f"{url}/v25.0/act_1/campaigns", params={"limit": "4", "access_token": token})
while "next" in page.get("paging", {}):
    page = tell("GET", page["paging"]["next"])
for _ in range(2):
    tell("GET", f"{url}/v25.0/1001", headers={"Authorization": f"Bearer {token}"})
tell("GET", f"{url}/v25.0/404001", params={"access_token": token})
tell("POST", f"{url}/v25.0/1001", data={"name": "new", "access_token": token})
