"""Reads an object with an ETag in hand, before and after it changes: business_validators.py URL TOKEN."""

import json
import sys
from typing import Any

from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

NODE = ("1001",)

url, token = sys.argv[1:]

FacebookSession.GRAPH = url
api = FacebookAdsApi.init("999", "SEC", token, crash_log=False)


def ask(method: str = "GET", etag: str = "", **params: str) -> Any:
    """Make a call, tell what came, and return it."""
    response = api.call(method, NODE, params=params, headers={"If-None-Match": etag} if etag else {})
    assert response.is_success(), "a 304 is one"
    print(json.dumps([response.status(), response.json()], sort_keys=True))
    return response


first = ask(fields="name,viewer")
ask(fields="name,viewer", etag=first.etag())
ask("POST", name="Søn & dagen")
changed = ask(fields="name,viewer", etag=first.etag())
ask(fields="name,viewer", etag=changed.etag())
