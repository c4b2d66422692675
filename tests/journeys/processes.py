"""The real command as a process of its own, as an orchestrator starts and ends it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Serving:
    """A `graph-sidecar serve` and what it has said so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    url: str = ""
    admin_url: str = ""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _over: bool = False

    async def listen(self) -> None:
        """Take down what the process says until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.lines.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._over = True
            self._news.notify_all()

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line that holds *pattern*."""
        async with self._news:
            while not (found := next(filter(None, (re.search(pattern, line) for line in self.lines)), None)):
                assert not self._over, f"ended without saying {pattern}: {self.said}"
                await self._news.wait()
            return found

    @property
    def said(self) -> str:
        """All that it has said."""
        return "".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended and all that it said is here."""
        async with self._news:
            await self._news.wait_for(lambda: self._over)
        return await self.process.wait()

    @property
    def peak_kb(self) -> int:
        """The most memory that it has had at a time."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])


PATIENT = ("batch.queue_s=60", "listener.lag_s=0")
"""On a busy machine nobody is refused for what else it does."""


@asynccontextmanager
async def serving(
    origin: str,
    folder: Path,
    *sets: str,
    listen: str = "127.0.0.1:0",
    environ: Mapping[str, str] | None = None,
    ours: Sequence[str] = ("-m", "proxy"),
) -> AsyncIterator[Serving]:
    """A sidecar in front of *origin*, its cache and key in *folder*; it is killed if it is still there at the end.

    *sets* are settings over the tests' own; *ours* is how Python is told to run the command line.
    """
    cache = (f"cache.dir={folder / 'cache'}", f"cache.key_file={folder / 'key'}")
    given = [f"upstream.origin={origin}", *cache, *PATIENT, *sets]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *ours, "serve", "--listen", listen, "--admin", "127.0.0.1:0"),
        *(word for setting in given for word in ("--set", setting)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    started = Serving(process)
    listener = asyncio.ensure_future(started.listen())
    try:
        found = await started.says(r"on (http://[^ ]+), admin on (http://[^ \"]+)")
        started.url, started.admin_url = found[1], found[2]
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listener
