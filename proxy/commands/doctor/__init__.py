"""The `doctor` command: which assumptions about Graph hold today, and what the sidecar does in either case.

    script     the calls in their order             graph_client    makes the calls: counted, and at most 40
    machine    checks folders, DNS and TLS          report          writes text, JSON, or a table for an issue

`core/graph/doctor` judges the answers.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.app import from_settings
from proxy.commands.doctor import machine, script
from proxy.commands.doctor.graph_client import Stopped, TokenAndSecret, open_client
from proxy.commands.doctor.report import WRITERS, Result
from proxy.core.graph.doctor.answers import Finding, Judged, Transcript, Verdict
from proxy.core.graph.doctor.assumptions import judge
from proxy.settings import Settings, value_of
from proxy.settings.base import version
from proxy.settings.load import SettingsError

_OBJECT = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_EDGE = re.compile(r"[A-Za-z_]{1,64}")
_API_VERSION = re.compile(r"v\d{1,3}\.\d{1,2}")


class DoctorOptions(NamedTuple):
    """What to ask, and how to print the findings."""

    token: TokenAndSecret
    object: str
    edge: str
    json: bool
    report: bool


def run(settings: Settings, origins: dict[str, str], options: DoctorOptions) -> int:
    """Ask Graph, print the findings, and return the exit status. Raises SettingsError."""
    if not _OBJECT.fullmatch(options.object):
        raise SettingsError(["--object: must be an id or a name, such as me"])
    if options.edge and not _EDGE.fullmatch(options.edge):
        raise SettingsError(["--edge: must be the name of an edge, such as posts"])
    first, seen, calls = asyncio.run(_ask_all(settings, options))
    found = [*first, *judge(seen)]
    names = sorted({name for each in found for name in each.settings})
    served = seen.answers["first"].header("facebook-api-version") if "first" in seen.answers else ""
    result = Result(
        version(),
        served if _API_VERSION.fullmatch(served) else "",
        *calls,
        found,
        {name: value_of(settings, name) for name in names},
        frozenset(name for name in names if origins[name] != "default"),
    )
    sys.stdout.write(WRITERS[options.json, options.report](result))
    if (rest := seen.rest).detail and any(each.verdict is Verdict.FAILED for each in found):
        sys.stderr.write(f"graph-sidecar: {rest.detail}\n")
    return result.status


async def _ask_all(settings: Settings, options: DoctorOptions) -> tuple[list[Finding], Transcript, tuple[int, int]]:
    """Returns the findings about this machine, Graph's answers, and how many calls and HTTP requests were made."""
    upstream, origin = from_settings.upstream_options(settings), urlsplit(settings.upstream.origin)
    is_tls = origin.scheme == "https"
    endpoint = machine.Endpoint(origin.hostname or "", origin.port or (443 if is_tls else 80), is_tls)
    found = [machine.folders(settings)]
    try:
        named, addresses = await machine.dns(endpoint, upstream)
        found.append(named)
        found.append(await machine.tls(endpoint, upstream, addresses))
    except machine.CannotConnect as unreachable:
        return [*found, unreachable.finding], _no_answers(unreachable), (0, 0)
    async with open_client(upstream, origin.netloc, options.token, _progress) as client:
        seen = await script.run(client, script.Targets(options.object, options.edge))
    _end_progress()
    return found, seen, (client.calls, client.http_calls)


def _no_answers(why: Stopped) -> Transcript:
    seen = Transcript()
    seen.rest = Judged(Verdict.FAILED, str(why))
    return seen


def _progress(calls: int, most: int) -> None:
    """Show the number of calls so far, if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rasking Graph: {calls} of at most {most} calls ")
        sys.stderr.flush()


def _end_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
