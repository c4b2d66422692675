"""What systemd is told by the real command: sd_notify(3)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.processes import serving


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and the address that it hands to its services."""
    name = f"graph-sidecar-{tmp_path.name}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.setblocking(False)
        found.bind(f"\0{name}" if request.param == "abstract" else name)
        yield found, f"@{name}" if request.param == "abstract" else name


async def test_it_is_told_when_it_is_ready_and_when_it_drains(
    manager: tuple[socket.socket, str], tmp_path: Path
) -> None:
    """READY=1 comes once requests are taken, STOPPING=1 at SIGTERM, each with a line for people."""
    heard, address = manager
    loop = asyncio.get_running_loop()
    async with serving("http://127.0.0.1:9", tmp_path, environ={"NOTIFY_SOCKET": address}) as sidecar:
        said = (await loop.sock_recv(heard, 4096)).decode().split("\n")
        assert said == ["READY=1", f"STATUS=serving http://127.0.0.1:9 on {sidecar.url}, admin on {sidecar.admin_url}"]
        sidecar.signal(signal.SIGTERM)
        said = (await loop.sock_recv(heard, 4096)).decode().split("\n")
        assert said == ["STOPPING=1", "STATUS=draining for at most 25 s"]
        assert await sidecar.ended() == 0


async def test_a_manager_that_has_gone_hurts_nobody(tmp_path: Path) -> None:
    """An address at which nobody listens is no reason not to serve."""
    async with serving("http://127.0.0.1:9", tmp_path, environ={"NOTIFY_SOCKET": str(tmp_path / "none")}) as sidecar:
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
