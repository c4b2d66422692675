"""Reads objects, a feed page by page and what is nested in them: facepy_reads.py URL TOKEN [reversed]."""

import json
import sys
from typing import Any

from facepy import GraphAPI

SHOWN = ("Content-Type", "Facebook-API-Version", "X-App-Usage", "Cache-Control")

url, token, *options = sys.argv[1:]
graph = GraphAPI(token, url=url, appsecret="SEC", version="25.0")


def fields(*names: str) -> str:
    """The names in the order of this run."""
    return ",".join(reversed(names) if "reversed" in options else names)


def tell(value: Any) -> None:
    """One line of JSON, with the header fields that a program may look at."""
    told = value.pop("headers")
    print(json.dumps({"body": value, "headers": {name: told.get(name) for name in SHOWN}}, sort_keys=True, default=str))


tell(graph.get("me"))
tell(graph.get("111", fields=fields("name", "link", "viewer")))
tell(graph.get("111", fields=fields("feed.limit(3){message,comments.limit(2){message}}", "name")))
tell(graph.get("", ids="111,112", fields=fields("name", "viewer")))
for page in graph.get("me/feed", page=True, limit=8, fields=fields("message", "created_time", "viewer")):
    tell(page)
