"""The demo's processes as seen from the one that starts them, and the emulator's and the sidecar's own counts."""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_ENDS_WITHIN_S = 5


class PartError(Exception):
    """A process ended before its time; the text is its last word."""


class Interrupted(Exception):  # noqa: N818 - a wish, not an error
    """Ctrl-C, or SIGTERM."""

    def __init__(self, number: int) -> None:
        """Keep the signal's *number*."""
        super().__init__(signal.strsignal(number))
        self.number = number


class Ending:
    """Whether somebody wants this to end. It is noted here and told at the next pause, by an exception of ours.

    One raised out of a signal's handler comes between any two steps, and is lost where that is inside a callback.
    """

    def __init__(self, pause: socket.socket) -> None:
        """Be told through *pause*, which a signal makes readable."""
        self._pause = pause
        self.number = 0

    def note(self, number: int, _frame: object) -> None:
        """Remember the signal."""
        self.number = number

    def wait(self, stream: Any) -> None:
        """Until *stream* has something to read. Raises Ended."""
        select.select([stream, self._pause], [], [])
        if self.number:
            raise Interrupted(self.number)


@contextmanager
def ending() -> Iterator[Ending]:
    """Within this, SIGINT and SIGTERM are noted rather than raised."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        told = Ending(ours)
        before = {number: signal.signal(number, told.note) for number in (signal.SIGINT, signal.SIGTERM)}
        woken = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield told
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)


class Part:
    """A process that is told what to be by its first order; it ends when this is left, or when we are gone."""

    def __init__(self, part: str, told: Ending, **order: Any) -> None:
        """Start it; `hear` waits for what it says, or until *told* of an end."""
        self._name = part
        self._told = told
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxy.commands.demo.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # so that what was said and not heard can be waited for
            cwd=Path(__file__).parents[3],  # where -m finds this very package, whatever else is called so
            process_group=0,  # a terminal's Ctrl-C reaches us alone
        )
        self.tell(part=part, **order)

    def __enter__(self) -> Self:
        """End it when this is left."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take its standard input away, which ends it, and see that it does."""
        try:
            self._process.communicate(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            self._errors.close()

    def tell(self, **order: Any) -> None:
        """Give it an order."""
        assert self._process.stdin  # noqa: S101 - it was started with a pipe
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise PartError(self._last_words()) from None

    def hear(self) -> dict[str, Any]:
        """Wait for the next thing that it says. Raises PartError, and Ended."""
        assert self._process.stdout  # noqa: S101 - it was started with a pipe
        self._told.wait(self._process.stdout)
        line = self._process.stdout.readline()
        if not line:
            raise PartError(self._last_words())
        told: dict[str, Any] = json.loads(line)
        return told

    def _last_words(self) -> str:
        self._process.wait(_ENDS_WITHIN_S)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{self._name}: {lines[-1] if lines else f'ended with status {self._process.returncode}'}"


class Control:
    """A server's own JSON paths, over one connection: a second one would be counted among the callers'."""

    def __init__(self, url: str) -> None:
        """Ask the server at *url*."""
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def read(self, path: str) -> dict[str, Any]:
        """What the server tells under *path*."""
        return self._exchange("GET", path, None)

    def change(self, path: str, /, **what: Any) -> dict[str, Any]:
        """Have the server do *what*."""
        return self._exchange("POST", path, json.dumps(what))

    def _exchange(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        self._connection.request(method, path, body)
        told: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return told


class EmulatorLedger(Control):
    """The emulator's ledger: what Graph counted."""

    def reset(self, *what: str) -> None:
        """Start again at nothing; *what* else is reset with it, such as "world"."""
        self.change("/__emulator__/reset", what=["ledger", *what])

    def counted(self) -> dict[str, Any]:
        """Everything since the last reset."""
        return self.read("/__emulator__/ledger")
