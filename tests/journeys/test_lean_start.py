"""What a plain `serve` does not use takes no memory: the real command, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from proxy.app.system import resident_memory
from tests.journeys.conftest import MakeAsk, MakeGraph
from tests.journeys.processes import serving
from tests.shell.store.samples import MIB

UNUSED = (
    "cryptography.x509",  # transparent mode
    "prometheus_client",  # the first scrape
    "aiodns",  # upstream.nameservers
    "jsonpath_ng",  # references in batches of applications
    "pyjson5",  # loose JSON in them
    "rich",  # commands for people
    "redis",  # shared.url
    "opentelemetry",  # traces.endpoint
    "proxy.emulator",
    "proxy.commands",
)


async def test_a_plain_serve_has_not_imported_what_it_does_not_use(
    graph: MakeGraph, ask: MakeAsk, tmp_path: Path
) -> None:
    """Nor after a read. A scrape imports what it needs, and is answered."""
    behind = await graph()
    async with serving(behind.url, tmp_path, environ={"PYTHONPROFILEIMPORTTIME": "1"}) as sidecar:
        assert (await (await ask(sidecar.url)).say("/v25.0/111", token="ann")).status == 200
        imported = re.findall(r"^import time:.*\| +(\S+)$", sidecar.said, re.MULTILINE)
        assert "aiohttp.web" in imported
        assert [name for name in imported if _is_unused(name)] == [], sorted(imported)
        scraped = await (await ask(sidecar.admin_url)).say("/metrics")
        assert scraped.status == 200
        await sidecar.says(r"prometheus_client")
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0


def _is_unused(name: str) -> bool:
    """Whether *name* is of a module that a plain serve does without; an import that was refused is listed, too."""
    return any(name == unused or name.startswith(f"{unused}.") for unused in UNUSED if unused != "aiodns") or (
        name.startswith("aiodns.")
    )


async def test_the_last_lines_of_the_log_are_written_at_the_end(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Each reply has its line, in order, also those that were given just before a signal."""
    behind = await graph()
    async with serving(behind.url, tmp_path) as sidecar:
        caller = await ask(sidecar.url)
        for number in range(50):
            await caller.say(f"/v25.0/{1000 + number}", token="ann")
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
        told = [json.loads(line) for line in sidecar.lines if '"graph_sidecar.reply"' in line]
    assert [each["path"] for each in told] == [f"/{1000 + number}" for number in range(50)]


@pytest.mark.skipif(sys.platform != "linux", reason="proc_pid_statm(5)")
def test_free_memory_is_returned() -> None:
    """Of many bodies a few stay, each between others that have gone: the process holds little more than those."""
    bodies = [os.urandom(2000) for _ in range(20_000)]
    bodies = bodies[::50]
    before = _resident()
    resident_memory.release_free_memory()
    assert before - _resident() > 20 * MIB
    assert len(bodies) == 400


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_only_unwritten_pages_of_files_are_unmapped() -> None:
    """Not those that may be written to, that are nobody's file, or of which a page differs from the file."""
    smaps = """\
1000-2000 r-xp 00000000 08:01 11 /lib/code.so
Rss:                  16 kB
Anonymous:             0 kB
2000-3000 rw-p 00000000 08:01 11 /lib/code.so
Anonymous:             0 kB
3000-4000 r--p 00000000 08:01 11 /lib/code.so
Anonymous:             4 kB
4000-5000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Anonymous:             0 kB
a000-c000 r--p 00000000 08:01 12 /lib/other.so
Anonymous:             0 kB
VmFlags: rd mr mw me
"""
    assert list(resident_memory.read_only_mappings(smaps.splitlines())) == [(0x1000, 0x2000), (0xA000, 0xC000)]
