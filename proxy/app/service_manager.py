"""Tells systemd that the sidecar is ready, and what it does: sd_notify(3)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

Tell = Callable[[str, str], None]


def to_nobody(_state: str, _status: str) -> None:
    """Tell nobody."""


def to(address: str) -> Tell:
    """A function that sends a state (`READY`, `STOPPING`) and a line for people to *address*, "" for nobody."""
    if not address:
        return to_nobody

    def tell(state: str, status: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as at:
            at.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            at.send(f"{state}=1\nSTATUS={status}".encode())

    return tell
