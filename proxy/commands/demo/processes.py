"""Starts and stops the demo's processes, and reads the counts of the emulator and the sidecar."""

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
    """A process ended too early; the text is the last line that it wrote."""


class Interrupted(Exception):  # noqa: N818 - a wish, not an error
    """Ctrl-C, or SIGTERM."""

    def __init__(self, number: int) -> None:
        """Keep the signal's *number*."""
        super().__init__(signal.strsignal(number))
        self.number = number


class Ending:
    """Whether the demo was interrupted. The signal is recorded, and raised as an exception at the next pause.

    One raised out of a signal's handler comes between any two steps, and is lost where that is inside a callback.
    """

    def __init__(self, pause: socket.socket) -> None:
        """Wait on *pause*, a socket that a signal makes readable."""
        self._pause = pause
        self.number = 0

    def note(self, number: int, _frame: object) -> None:
        """Remember the signal."""
        self.number = number

    def wait(self, stream: Any) -> None:
        """Wait until *stream* has something to read. Raises Interrupted."""
        select.select([stream, self._pause], [], [])
        if self.number:
            raise Interrupted(self.number)


@contextmanager
def ending() -> Iterator[Ending]:
    """Record SIGINT and SIGTERM while this lasts, instead of raising them."""
    ours, wakeup = socket.socketpair()
    with ours, wakeup:
        wakeup.setblocking(False)
        end = Ending(ours)
        before = {number: signal.signal(number, end.note) for number in (signal.SIGINT, signal.SIGTERM)}
        woken = signal.set_wakeup_fd(wakeup.fileno())
        try:
            yield end
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)


class DemoProcess:
    """A process whose first order names the part to run; it ends when this is left, or when the parent ends."""

    def __init__(self, part: str, end: Ending, **order: Any) -> None:
        """Start the process; `receive` waits for its next message, or for *end*."""
        self._name = part
        self._end = end
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxy.commands.demo.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # so that a message can be waited for
            cwd=Path(__file__).parents[3],  # where -m finds this very package, whatever else is called so
            process_group=0,  # a terminal's Ctrl-C reaches us alone
        )
        self.send(part=part, **order)

    def __enter__(self) -> Self:
        """Returns the process itself; leaving its context ends it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close its standard input, which ends the process, and kill the process if it does not end in time."""
        try:
            self._process.communicate(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            self._errors.close()

    def send(self, **order: Any) -> None:
        """Send an order to the process."""
        assert self._process.stdin  # noqa: S101 - it was started with a pipe
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise PartError(self._last_words()) from None

    def receive(self) -> dict[str, Any]:
        """Wait for the next thing that it says. Raises PartError, and Ended."""
        assert self._process.stdout  # noqa: S101 - it was started with a pipe
        self._end.wait(self._process.stdout)
        line = self._process.stdout.readline()
        if not line:
            raise PartError(self._last_words())
        message: dict[str, Any] = json.loads(line)
        return message

    def _last_words(self) -> str:
        self._process.wait(_ENDS_WITHIN_S)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{self._name}: {lines[-1] if lines else f'ended with status {self._process.returncode}'}"


class Control:
    """A client of a server's JSON endpoints; it keeps one connection, for more would count as callers' connections."""

    def __init__(self, url: str) -> None:
        """Use the server at *url*."""
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def read(self, path: str) -> dict[str, Any]:
        """Returns the JSON document at *path*."""
        return self._exchange("GET", path, None)

    def change(self, path: str, /, **what: Any) -> dict[str, Any]:
        """Post the action *what* to the server."""
        return self._exchange("POST", path, json.dumps(what))

    def _exchange(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        self._connection.request(method, path, body)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer


class EmulatorLedger(Control):
    """The emulator's ledger: what Graph counted."""

    def reset(self, *what: str) -> None:
        """Reset the ledger to zero; *what* else is reset too, such as "world"."""
        self.change("/__emulator__/reset", what=["ledger", *what])

    def counted(self) -> dict[str, Any]:
        """Returns the counts since the last reset."""
        return self.read("/__emulator__/ledger")
