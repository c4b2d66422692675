"""The image's health check: asked of what the container runs, found by its first process's command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import health

Container = Callable[..., Path]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """What `/proc/1` of a container tells whose first process runs these words, in its *run*th run."""

    def first(*words: str, run: int = 1) -> Path:
        folder = tmp_path / "proc"
        folder.mkdir(exist_ok=True)
        (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        (folder / "stat").write_text(f"1 (graph) sidecar) S {' '.join('0' for _ in range(18))} {run} 0 0\n")
        return folder

    return first


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[Path], str]:
    """What the check would ask, its note kept in a file of the test's."""
    return lambda first: health.address(str(first), str(tmp_path / "note"))


IMAGE = ("python", "-m", "proxy")


@pytest.mark.parametrize(
    "words, where",
    [
        ((*IMAGE, "serve"), "127.0.0.1 9180 /readyz"),
        ((*IMAGE, "serve", "--admin", "0.0.0.0:9999"), "127.0.0.1 9999 /readyz"),
        ((*IMAGE, "serve", "--set", "admin=[::]:9998"), "::1 9998 /readyz"),
        ((*IMAGE, "emulate"), "127.0.0.1 8081 /"),
        ((*IMAGE, "emulate", "--listen", "0.0.0.0:80"), "127.0.0.1 80 /"),
        (("/sbin/docker-init", "--", *IMAGE, "serve", "--admin", "127.0.0.1:7"), "127.0.0.1 7 /readyz"),
        (("/x/python", "/x/bin/graph-sidecar", "serve"), "127.0.0.1 9180 /readyz"),
        ((*IMAGE, "run", "--", "tap-facebook"), ""),
        (("sleep", "60"), ""),
    ],
)
def test_what_it_asks(container: Container, asked: Callable[[Path], str], words: tuple[str, ...], where: str) -> None:
    """The admin listener, or the offline Graph, where the command line put it; one that serves nothing is well."""
    assert asked(container(*words)) == where


def test_environment_and_files_count(
    container: Container, asked: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The container's environment, and a file that the command line names, put the listener elsewhere, too."""
    monkeypatch.setenv("GRAPH_SIDECAR_ADMIN", "127.0.0.1:1")
    assert asked(container(*IMAGE, "serve", run=1)) == "127.0.0.1 1 /readyz"
    monkeypatch.delenv("GRAPH_SIDECAR_ADMIN")
    (tmp_path / "its.toml").write_text('admin = "127.0.0.1:2"\n')
    assert asked(container(*IMAGE, "serve", "--config", str(tmp_path / "its.toml"), run=2)) == "127.0.0.1 2 /readyz"


def test_it_looks_once_in_each_run(container: Container, asked: Callable[[Path], str]) -> None:
    """Later rounds take the note; in another run, or where others could have written the note, it looks anew."""
    assert asked(container(*IMAGE, "serve", run=1)) == "127.0.0.1 9180 /readyz"
    assert asked(container(*IMAGE, "emulate", run=1)) == "127.0.0.1 9180 /readyz"
    assert asked(container(*IMAGE, "emulate", run=2)) == "127.0.0.1 8081 /"
    note = container(*IMAGE, "serve", run=2).parent / "note"
    note.chmod(0o666)
    assert asked(note.parent / "proc") == "127.0.0.1 9180 /readyz"
    note.unlink()
    note.symlink_to(note.parent / "elsewhere")
    assert asked(container(*IMAGE, "emulate", run=2)) == "127.0.0.1 8081 /"
    assert not (note.parent / "elsewhere").exists()


def test_a_later_round_loads_next_to_nothing(container: Container, tmp_path: Path) -> None:
    """With a note there, neither the settings' model nor the command line are loaded."""
    first, note = container(*IMAGE, "serve"), tmp_path / "note"
    health.address(str(first), str(note))
    look = (
        "import sys; from proxy import health; "
        f"health.address({str(first)!r}, {str(note)!r}); "
        "print([name for name in sys.modules if name.startswith(('pydantic', 'proxy.cli', 'proxy.settings'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", look], text=True).strip() == "[]"


@asynccontextmanager
async def _answering(head: bytes) -> AsyncIterator[int]:
    """A port at which every request gets *head*."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "head, status",
    [(b"HTTP/1.1 200 OK\r\n\r\n", 200), (b"HTTP/1.1 503 \r\n\r\n", 503), (b"SSH-2.0-OpenSSH_9.2\r\n", 0), (b"", 0)],
)
async def test_what_an_answer_says(head: bytes, status: int) -> None:
    """Only an answer in HTTP has a status."""
    async with _answering(head) as port:
        assert await asyncio.to_thread(health.status_of, "127.0.0.1", port, "/readyz") == status


@pytest.mark.parametrize(
    "head, path, status",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "/readyz", 0),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "/readyz", 1),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "/", 0),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "/", 1),
        (b"", "/", 1),
    ],
)
async def test_the_status_of_the_check(monkeypatch: pytest.MonkeyPatch, head: bytes, path: str, status: int) -> None:
    """A sidecar is well while it is ready, the offline Graph while it answers."""
    async with _answering(head) as port:
        monkeypatch.setattr(health, "address", lambda _first, _note: f"127.0.0.1 {port} {path}")
        assert await asyncio.to_thread(health.main) == status


def test_a_container_that_serves_nothing_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to ask."""
    monkeypatch.setattr(health, "address", lambda _first, _note: "")
    assert health.main() == 0
