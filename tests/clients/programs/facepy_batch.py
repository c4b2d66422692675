"""Sends more operations than one batch holds, reads and writes, mistakes and references: facepy_batch.py URL TOKEN."""

import json
import sys
from typing import Any

from facepy import GraphAPI
from facepy.exceptions import FacebookError

url, token = sys.argv[1:]
graph = GraphAPI(token, url=url, appsecret="SEC", version="25.0")

operations: list[dict[str, Any]] = [
    {"method": "GET", "relative_url": f"{number}?fields=name,viewer"} for number in range(1001, 1055)
]
operations[3]["relative_url"] = "404001?fields=name"
operations += [
    {"method": "POST", "relative_url": "111/feed", "body": {"message": "hej & dav æ"}, "name": "post"},
    {"method": "GET", "relative_url": "{result=post:$.id}?fields=message"},
    {"method": "GET", "relative_url": "111/feed?limit=2&fields=message"},
]


def line_is_of(answer: Any) -> Any:
    """What to tell of an answer, or of an error among the answers."""
    if isinstance(answer, FacebookError):
        return [type(answer).__name__, answer.code, answer.error_subcode, answer.message]
    return answer


try:
    answers = list(graph.batch(operations))
except FacebookError as error:
    answers = ["refused", error]
for answer in answers:
    print(json.dumps(line_is_of(answer), sort_keys=True, default=str))
