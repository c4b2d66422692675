"""Says which of the assumptions about Graph hold today, and what the sidecar does in either case.

    script     what is asked, in which order        asking     the calls: counted, and no more than 40
    machine    folders, DNS and TLS                 report     for people, as JSON, for an issue

What the answers mean is judged in `proxy.core.graph.doctor`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.app import from_settings
from proxy.commands.doctor import machine, script
from proxy.commands.doctor.asking import Asker, Caller, Over, asking
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
    """What is to be asked, and how the answer is told."""

    caller: Caller
    object: str
    edge: str
    json: bool
    report: bool


def run(settings: Settings, origins: dict[str, str], wish: DoctorOptions) -> int:
    """Ask, print what was found, and return the exit status. Raises SettingsError."""
    if not _OBJECT.fullmatch(wish.object):
        raise SettingsError(["--object: must be an id or a name, such as me"])
    if wish.edge and not _EDGE.fullmatch(wish.edge):
        raise SettingsError(["--edge: must be the name of an edge, such as posts"])
    first, seen, asked = asyncio.run(_asked(settings, wish))
    found = [*first, *judge(seen)]
    names = sorted({name for each in found for name in each.settings})
    told = seen.answers["first"].header("facebook-api-version") if "first" in seen.answers else ""
    result = Result(
        version(),
        told if _API_VERSION.fullmatch(told) else "",
        *asked,
        found,
        {name: value_of(settings, name) for name in names},
        frozenset(name for name in names if origins[name] != "default"),
    )
    sys.stdout.write(WRITERS[wish.json, wish.report](result))
    if (rest := seen.rest).detail and any(each.verdict is Verdict.FAILED for each in found):
        sys.stderr.write(f"graph-sidecar: {rest.detail}\n")
    return result.status


async def _asked(settings: Settings, wish: DoctorOptions) -> tuple[list[Finding], Transcript, tuple[int, int]]:
    """What was found on the way to Graph, its answers, and how many calls and HTTP requests that took."""
    way, origin = from_settings.upstream_options(settings), urlsplit(settings.upstream.origin)
    is_tls = origin.scheme == "https"
    place = machine.Place(origin.hostname or "", origin.port or (443 if is_tls else 80), is_tls)
    found = [machine.folders(settings)]
    try:
        named, addresses = await machine.dns(place, way)
        found.append(named)
        found.append(await machine.tls(place, way, addresses))
    except machine.Unable as unable:
        return [*found, unable.finding], _nothing(unable), (0, 0)
    async with asking(way, origin.netloc, wish.caller, _progress) as asker:
        seen = await script.run(asker, script.Targets(wish.object, wish.edge))
    _end_progress()
    return found, seen, _spent(asker)


def _nothing(why: Over) -> Transcript:
    seen = Transcript()
    seen.rest = Judged(Verdict.FAILED, str(why))
    return seen


def _spent(asker: Asker) -> tuple[int, int]:
    return asker.calls, asker.http_calls


def _progress(calls: int, most: int) -> None:
    """Tell a terminal how far the asking is."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rasking Graph: {calls} of at most {most} calls ")
        sys.stderr.flush()


def _end_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
