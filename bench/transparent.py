"""Under `graph-sidecar run --` the first call costs at most 60 ms more than direct, the next at most 3 ms more.

The program is one of Python's standard library that knows nothing of the sidecar: it heeds `HTTPS_PROXY` and
`SSL_CERT_FILE`. Directly it asks the emulator in clear, so that reading the root certificates, CONNECT and the whole
handshake are counted, though a direct call to Graph has all but one of these as well.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.harness import graph, ids, median, show, table, verdict

ROUNDS, CALLS, PAUSE_S = 9, 100, 0.003
GRAPH = "https://graph.facebook.com"


async def main():
    """Take turns, round by round."""
    with graph() as origin, tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "XDG_STATE_HOME": f"{folder}/state", "XDG_CACHE_HOME": f"{folder}/cache"}
        under = [sys.executable, "-m", "proxy", "run", "--upstream", origin.url, "--"]
        ways = {"directly": ([], origin.url), "under run": (under, GRAPH)}
        told = {name: [] for name in ways}
        for number in range(-1, ROUNDS):
            for name, (before, url) in ways.items():
                taken = _ask([*before, sys.executable, "-m", "bench.transparent", url, str(number + 1)], environ)
                if number >= 0:  # the round before the first makes the authority and warms up
                    told[name].append(taken)
    _tell(told)


def _ask(command, environ):
    """What a program's calls took, in ms, the first one first."""
    done = subprocess.run(
        command, env=environ, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    return [each * 1000 for each in json.loads(done.stdout)]


def _tell(told):
    first = {name: [taken[0] for taken in each] for name, each in told.items()}
    following = {name: [median(taken[1:]) for taken in each] for name, each in told.items()}
    made = table("a call of a program", "median ms", "more than directly")
    more = {}
    for what, found in (("the first", first), ("the next", following)):
        ours, theirs = found["under run"], found["directly"]
        more[what] = median(one - other for one, other in zip(ours, theirs, strict=True))
        made.add_row(f"{what}, directly", f"{median(theirs):.2f}", "")
        made.add_row(f"{what}, under run", f"{median(ours):.2f}", f"{more[what]:+.2f}")
    show(made)
    for what, limit in (("the first", 60), ("the next", 3)):
        verdict(f"{what} call under run", f"<= {limit} ms more", f"{more[what]:+.2f} ms", met=more[what] <= limit)


def program(url, number):
    """Ask for objects one after another over one connection, and print how many seconds each took."""
    taken, connection = [], None
    for each in ids(number * 1000, CALLS):
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        connection = connection or _connect(url)
        connection.request("GET", f"/v25.0/{each}?access_token=bench")
        reply = connection.getresponse()
        reply.read()
        taken.append(time.perf_counter() - began)
        if reply.status != 200:
            raise SystemExit(f"{each} was answered {reply.status}")
    print(json.dumps(taken))


def _connect(url):
    at = urlsplit(url)
    if at.scheme == "http":
        return http.client.HTTPConnection(at.netloc)
    by = urlsplit(os.environ["HTTPS_PROXY"]).netloc
    made = http.client.HTTPSConnection(by, context=ssl.create_default_context())
    made.set_tunnel(at.hostname, 443)
    return made


if __name__ == "__main__":
    if len(sys.argv) > 2:
        program(sys.argv[1], int(sys.argv[2]))
    else:
        asyncio.run(main())  # not pinned as a load generator: what it starts has both processors
