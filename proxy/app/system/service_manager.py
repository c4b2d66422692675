"""Notifies systemd that the sidecar is ready or stopping, with sd_notify(3)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

Notify = Callable[[str, str], None]


def ignore_notification(_state: str, _status: str) -> None:
    """Do nothing."""


def notifier(address: str) -> Notify:
    """Returns a function that sends a state (`READY`, `STOPPING`) and a status line to *address*; "" sends nothing."""
    if not address:
        return ignore_notification

    def notify(state: str, status: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as at:
            at.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            at.send(f"{state}=1\nSTATUS={status}".encode())

    return notify
