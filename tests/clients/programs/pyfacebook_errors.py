"""Reads what cannot be read and tells what was raised: pyfacebook_errors.py URL TOKEN ID[?FIELD]...

An id that starts with `+` is posted to instead.
"""

import json
import sys

from pyfacebook import GraphAPI
from pyfacebook.exceptions import PyFacebookException

url, token, *asked = sys.argv[1:]
graph = GraphAPI(access_token=token, base_url=f"{url}/")

for each in asked:
    node, _, field = each.partition("?")
    try:
        if node.startswith("+"):
            found = graph.post_object(node[1:], connection="feed", data={"message": "Søn & dagen"})
        else:
            found = graph.get_object(node, fields=field or "name")
        told = {"got": found.get("name", found["id"])}
    except PyFacebookException as error:
        told = {name: getattr(error, name, None) for name in ("code", "error_subcode", "message", "is_transient")}
        told["raised"] = type(error).__name__
    print(json.dumps(told, sort_keys=True))
