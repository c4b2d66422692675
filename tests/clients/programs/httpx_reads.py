"""Reads at once as a small script does them with httpx.

httpx_reads.py URL TOKEN
"""

import asyncio
import json
import sys
from typing import Any

import httpx

url, token = sys.argv[1:]


def tell(reply: httpx.Response) -> Any:
    """Status, type and body on a line; the body."""
    body = reply.json()
    print(json.dumps([reply.status_code, reply.headers["Content-Type"], body], sort_keys=True))
    return body


async def main() -> None:
    """Twenty objects at once, then pages one after another, then a write."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        reads = [client.get(f"/v25.0/{1001 + each}", params={"access_token": token}) for each in range(20)]
        for reply in await asyncio.gather(*reads):
            tell(reply)
        page = tell(await client.get("/v25.0/act_1/campaigns", params={"limit": 4, "access_token": token}))
        while "next" in page.get("paging", {}):
            page = tell(await client.get(page["paging"]["next"]))
        tell(await client.post("/v25.0/1001", data={"name": "new", "access_token": token}))


asyncio.run(main())
