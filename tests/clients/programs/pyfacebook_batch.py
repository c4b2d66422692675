"""Posts batches with its own means: pyfacebook_batch.py URL TOKEN.

Fifty operations, mistakes among them; then writes and an operation that names another.
"""

import json
import sys
from typing import Any

from pyfacebook import GraphAPI

url, token = sys.argv[1:]
graph = GraphAPI(access_token=token, app_secret="SEC", base_url=f"{url}/", version="v23.0")


def send(operations: list[dict[str, Any]]) -> None:
    """Send a batch and tell each slot, with the header fields that it looks at."""
    answer = graph._request(f"{graph.version}/", post_args={"batch": json.dumps(operations)}, verb="POST")
    print(json.dumps([answer.status_code, answer.headers["Content-Type"]]))
    for slot in answer.json():
        told = None
        if slot:
            fields = {field["name"].lower(): field["value"] for field in slot["headers"]}
            body = json.loads(slot["body"])
            body.get("error", {}).pop("fbtrace_id", None)
            told = [slot["code"], body, fields.get("x-app-usage"), fields["content-type"]]
        print(json.dumps(told, sort_keys=True))


reads: list[dict[str, Any]] = [{"relative_url": f"{node}?fields=name,viewer,link"} for node in range(1001, 1051)]
reads[3]["relative_url"] = "404001?fields=name"
reads[4] = {"method": "get", "relative_url": "/v25.0/111/feed/?limit=2&fields=message"}
reads[5] = {"method": "GET", "relative_url": "?ids=111,112&fields=name"}
send(reads)
send(
    [
        {"method": "POST", "relative_url": "111/feed", "body": "message=hej+%26+dav+%C3%A6", "name": "post"},
        {"method": "GET", "relative_url": "111/feed?limit=1&fields=message,viewer"},
        {"method": "POST", "relative_url": "{result=post:$.id}/likes"},
        {"method": "GET", "relative_url": "{result=post:$.id}?fields=message"},
        {"method": "GET", "relative_url": "111/feed?limit=2&fields=id", "name": "feed"},
        {"method": "GET", "relative_url": "?ids=%7Bresult%3Dfeed%3A%24.data.*.id%7D&fields=message"},
        {"method": "DELETE", "relative_url": "404001", "name": "gone"},
        {"method": "GET", "relative_url": "112?fields=name", "depends_on": "gone"},
    ]
)
