"""Posts, reads what it posted, deletes it, and uploads a photo: facepy_writes.py URL TOKEN IMAGE."""

import json
import sys
from pathlib import Path
from typing import Any

from facepy import GraphAPI
from facepy.exceptions import FacebookError

url, token, image = sys.argv[1:]
graph = GraphAPI(token, url=url, appsecret="SEC", version="25.0")


def tell(value: Any) -> None:
    """One line of JSON."""
    value.pop("headers", None)
    print(json.dumps(value, sort_keys=True, default=str))


def newest() -> None:
    """Tell the post at the head of the feed."""
    tell(graph.get("111/feed", limit=1, fields="message"))


newest()
post = graph.post("111/feed", message="hej & dav æ + 100 %")
newest()
tell(graph.delete(post["id"], retry=0))
try:
    tell(graph.get(post["id"], retry=0))
except FacebookError as error:
    tell({"code": error.code, "subcode": error.error_subcode})
with Path(image).open("rb") as source:
    tell(graph.post("111/photos", source=source, caption="Søndag"))
