"""Opens a listener, or says what is in the way."""

from __future__ import annotations

from aiohttp import web

from proxy.settings import Address
from proxy.shell.http.accepting import Site

BACKLOG = 4096
"""Callers that may connect in one turn of the loop; one too many is dropped by the system and tries again in 1 s."""


class StartError(Exception):
    """The sidecar cannot start; the text says what is in the way and what would do."""


async def listen(name: str, runner: web.BaseRunner, at: Address) -> Address:
    """Let *runner* answer at the address of the setting *name*; where it came to be. Raises StartError."""
    await runner.setup()
    try:
        await Site(runner, at.host, at.port, backlog=BACKLOG).start()
    except OSError as error:
        await runner.cleanup()
        raise StartError(f"{name} = {at}: {error.strerror or error}") from None
    return Address(at.host, runner.addresses[0][1])
