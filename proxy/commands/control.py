"""Controls a running sidecar through its admin listener: waits until it is ready, reloads it, ends it, queries it.

The sidecar is found by the settings that it was started with; they also name the admin token.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from proxy.app.token_files import admin_token
from proxy.settings import Address, Settings
from proxy.settings.load import SettingsError

EVERY_S = 0.05
"""Seconds between two polls."""

TIMEOUT_S = 5
"""Seconds that one request may take."""

_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the loopback address of each wildcard address


class ControlError(Exception):
    """The sidecar refused the command; the text quotes its answer."""


def from_here(address: Address) -> Address:
    """Returns the address under which this machine reaches a listener on *address*."""
    return Address(_LOOPBACK_OF.get(address.host, address.host), address.port)


class Remote:
    """The admin listener of a running sidecar."""

    def __init__(self, settings: Settings) -> None:
        """Take address and token from *settings*. Raises SettingsError."""
        self.at = from_here(settings.admin)
        if not self.at.port:
            raise SettingsError([f"admin = {settings.admin}: port 0 stands for any, so nothing can be found there"])
        token = admin_token(settings)
        self._fields = {"Authorization": f"Bearer {token}"} if token else {}

    def is_there(self) -> bool:
        """Returns whether the sidecar answers."""
        return self._status("/livez") is not None

    def is_ready(self) -> bool:
        """Returns whether the sidecar is ready."""
        return self._status("/readyz") == 200

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Returns the sidecar's JSON answer. Raises ControlError and OSError."""
        status, text = self._request(method, path, body)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if status >= 400:
            error = answer.get("error", {})
            message = error.get("message", "nothing that can be read").removeprefix("graph-sidecar: ")
            problems = "".join(f"\n  {problem}" for problem in error.get("problems", ()))
            raise ControlError(f"{self.at} answers {status} to {method} {path}: {message}{problems}")
        return answer

    def _status(self, path: str) -> int | None:
        try:
            return self._request("GET", path)[0]
        except OSError:
            return None

    def _request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.at.host, self.at.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._fields)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{self.at} speaks no HTTP ({type(error).__name__})") from None
        finally:
            connection.close()


def until(
    is_so: Callable[[], bool],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Poll *is_so* at least once, for *seconds* at most; returns whether it became true."""
    end = clock() + seconds
    while not is_so():
        if clock() >= end:
            return False
        sleep(EVERY_S)
    return True


def wait(settings: Settings, seconds: float) -> None:
    """Wait until the sidecar is ready. Raises ControlError, SettingsError."""
    remote = Remote(settings)
    if not until(remote.is_ready, seconds):
        state = "is not ready" if remote.is_there() else "does not answer"
        raise ControlError(f"{remote.at} {state} after {seconds:g} s")


def reload(settings: Settings) -> str:
    """Reload the settings; returns a line on what changed and what needs a restart. Raises ControlError."""
    remote = Remote(settings)
    try:
        answer = remote.ask("POST", "/reload")
    except OSError as error:
        raise ControlError(f"{remote.at} does not answer: {error.strerror or error}") from None
    taken = f"reloaded: {', '.join(answer['changed']) or 'nothing is new'}"
    waiting = ", ".join(answer["needs_restart"])
    return f"{taken}; waiting for a restart: {waiting}" if waiting else taken


def end(settings: Settings, seconds: float | None) -> None:
    """End the sidecar, and wait until everything is written. Raises ControlError, SettingsError."""
    remote = Remote(settings)
    try:
        remote.ask("POST", "/quit")
    except OSError as error:
        raise ControlError(f"{remote.at} does not answer: {error.strerror or error}") from None
    seconds = settings.drain_grace_s + settings.drain_s + TIMEOUT_S if seconds is None else seconds
    if not until(lambda: not remote.is_there(), seconds):
        raise ControlError(f"{remote.at} still answers after {seconds:g} s")
