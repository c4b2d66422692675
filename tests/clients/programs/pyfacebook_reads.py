"""Reads objects, several at once, and edges page by page, telling the usage it heard: pyfacebook_reads.py URL TOKEN."""

import json
import sys
from dataclasses import asdict
from typing import Any

from pyfacebook import FacebookApi, GraphAPI

url, token = sys.argv[1:]
graph = GraphAPI(access_token=token, app_secret="SEC", base_url=f"{url}/")


def tell(value: Any) -> None:
    """One line of JSON: what was read, and the usage that came with it, each read into a class without spare fields."""
    limits = graph.rate_limit
    usage = [limits.get_limit(), limits.get_limit(ad_account_limit=True), limits.get_limit("1", "ads_management")]
    print(json.dumps([value, [asdict(each) for each in usage]], sort_keys=True))


tell(graph.get_object("111", fields="name,link,viewer"))
tell(graph.get_object("112"))
tell(graph.get_objects("111,112,113", fields="name,viewer"))
tell(graph.get_full_connections("111", "feed", count=None, limit=4, fields="message,viewer"))
tell(graph.get_connection("111", "feed", limit=2, fields="message,comments.limit(2){message}"))
tell(graph.get_full_connections("act_1", "campaigns", count=7, limit=3, fields="name"))

api = FacebookApi(access_token=token, app_secret="SEC", base_url=f"{url}/")
tell(api.page.get_info("111", fields="id,name").to_dict())
tell([post.id for post in api.page.get_posts("111", fields="id", count=6, limit=3).data])
