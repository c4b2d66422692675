"""Reads what cannot be read and tells what was raised: business_errors.py URL TOKEN SECRET ID[?FIELD]...

A SECRET of `-` means none; an id that starts with `+` is written to instead.
"""

import json
import sys

from facebook_business.adobjects.campaign import Campaign
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

url, token, secret, *asked = sys.argv[1:]

FacebookSession.GRAPH = url
FacebookAdsApi.init("999", None if secret == "-" else secret, token, crash_log=False)

for each in asked:
    node, _, field = each.partition("?")
    campaign = Campaign(node.removeprefix("+"))
    try:
        if node.startswith("+"):
            found = campaign.api_update(params={"name": "Søn & dagen"})
        else:
            found = campaign.api_get(fields=[field or "name"])
    except FacebookRequestError as error:
        told = {
            "raised": type(error).__name__,
            "status": error.http_status(),
            "code": error.api_error_code(),
            "subcode": error.api_error_subcode(),
            "type": error.api_error_type(),
            "message": error.api_error_message(),
            "transient": error.api_transient_error(),
            "challenge": error.http_headers().get("WWW-Authenticate"),
            "usage": error.http_headers().get("X-App-Usage"),
        }
    except Exception as error:  # noqa: BLE001 - what the SDK makes of nonsense is its own affair
        told = {"raised": type(error).__name__}
    else:
        told = {"got": found.export_all_data()}
    print(json.dumps(told, sort_keys=True))
