"""Opens a listener, or raises StartError."""

from __future__ import annotations

from aiohttp import web

from proxy.settings import Address
from proxy.shell.http.accepting import Site

BACKLOG = 4096
"""Connections that may wait to be accepted; the system drops more, and their clients try again after 1 s."""


class StartError(Exception):
    """The sidecar cannot start; the text says why, and what to do."""


async def listen(name: str, runner: web.BaseRunner, at: Address) -> Address:
    """Serve *runner* at *at*, the address of the setting *name*; returns the actual address. Raises StartError."""
    await runner.setup()
    try:
        await Site(runner, at.host, at.port, backlog=BACKLOG).start()
    except OSError as error:
        await runner.cleanup()
        raise StartError(f"{name} = {at}: {error.strerror or error}") from None
    return Address(at.host, runner.addresses[0][1])
