"""Reads what cannot be read and tells what was raised: facepy_errors.py URL TOKEN ID[?FIELD]...

An id that starts with `+` is posted to instead.
"""

import json
import sys

from facepy import GraphAPI
from facepy.exceptions import FacepyError

url, token, *asked = sys.argv[1:]
graph = GraphAPI(token, url=url, version="25.0")

for each in asked:
    node, _, field = each.partition("?")
    try:
        if node.startswith("+"):
            found = graph.post(f"{node[1:]}/feed", message="Søn & dagen")
        else:
            found = graph.get(node, retry=0, fields=field or "name")
        told = {"got": found["name"] if "name" in found else found["id"]}
    except FacepyError as error:
        told = {name: getattr(error, name, None) for name in ("code", "error_subcode", "message", "is_transient")}
        told["raised"] = type(error).__name__
    print(json.dumps(told, sort_keys=True))
