"""Follows the sidecar's event stream, across its restarts (server-sent events: WHATWG HTML section 9.2)."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

from proxy.core.observe.time_series import ROWS

_SILENCE_S = 10
"""Seconds without data after which the connection counts as dead; the sidecar sends an event every second."""

_PAUSE_S = 1.0


class FollowError(Exception):
    """The sidecar cannot be shown; the text says why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the events so far."""

    url: str
    connected: bool = False
    received_at: float = 0.0
    """The local monotonic time of the last event; the sidecar may run on another machine."""
    stats: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: tuple[list[float], ...] = ()

    def after(self, name: str, data: dict[str, Any]) -> Snapshot:
        """Returns the snapshot updated by the event *name*."""
        match name:
            case "history":
                return replace(self, columns=tuple(data["columns"]), rows=tuple(data["rows"]))
            case "sample":
                kept = max(0, len(self.rows) + len(data["rows"]) - ROWS)
                return replace(self, rows=(*self.rows, *data["rows"])[kept:])
            case "stats":
                return replace(self, stats=data, connected=True, received_at=time.monotonic())
        return self


def follow(url: str, token: str) -> Iterator[Snapshot]:
    """Yields a snapshot after each event. Raises FollowError if the first connection fails."""
    seen, last_id = Snapshot(url), ""
    while True:
        try:
            with _open_stream(url, token, last_id) as stream:
                for identity, name, data in _events(stream):
                    last_id = identity or last_id
                    seen = seen.after(name, data)
                    if name == "stats":
                        yield seen
        except FollowError:
            if not seen.stats:
                raise
        except (OSError, http.client.HTTPException):
            pass  # it has gone, and may come back
        if not seen.stats:
            raise FollowError(f"{url}: ended before the first event")
        seen = replace(seen, connected=False)
        yield seen
        time.sleep(_PAUSE_S)


def _open_stream(url: str, token: str, last_id: str) -> IO[bytes]:
    headers = {"Accept": "text/event-stream"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if last_id:
        headers["Last-Event-ID"] = last_id
    # What stands in HTTP_PROXY is for Graph, not for us.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        reply = opener.open(urllib.request.Request(f"{url}/events", headers=headers), timeout=_SILENCE_S)  # noqa: S310 - http or https
    except urllib.error.HTTPError as error:
        with error:
            raise FollowError(f"{url}: {_refusal(error)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FollowError(
            f"{url}: no sidecar answers: {_reason(error)} (its admin listener is meant: --admin)"
        ) from None
    if reply.headers.get_content_type() != "text/event-stream":
        reply.close()
        raise FollowError(f"{url}: is no admin listener of graph-sidecar")
    stream: IO[bytes] = reply
    return stream


def _refusal(error: urllib.error.HTTPError) -> str:
    """Returns the sidecar's own error message, or the status if another server answered."""
    try:
        return str(json.loads(error.read())["error"]["message"]).removeprefix("graph-sidecar: ")
    except (ValueError, LookupError, TypeError, OSError):
        return f"answers {error.code}, so it is no admin listener of graph-sidecar"


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (cause.strerror if isinstance(cause, OSError) else str(cause)) or type(cause).__name__


def _events(stream: IO[bytes]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields each complete event: its id, its name, its data."""
    fields: dict[str, str] = {}
    while line := stream.readline():
        name, _, value = line.decode().rstrip("\n").partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"])
            fields = {}
