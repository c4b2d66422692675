"""The image's health check, `python -m proxy.health`: whether the command that the container runs is healthy.

An engine runs the check every few seconds, so most runs load nothing beyond this file. The address to ask is found
once in each run of the container, from the command line of its first process, and kept in a file in shared memory.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

FIRST = "/proc/1"
"""The container's first process: the sidecar, or an init that was given the sidecar's command line."""

NOTE = f"/dev/shm/graph-sidecar-health-{os.geteuid()}"  # noqa: S108 - no link, and read only if it is this user's own
TIMEOUT_S = 3.0


def main() -> int:
    """Returns 0 if the container is healthy or runs no server, else 1; prints the address and the answer."""
    asked = address(FIRST, NOTE)
    if not asked:
        return 0
    host, port, path = asked.split()
    status = status_of(host, int(port), path)
    is_well = status == 200 if path == "/readyz" else 0 < status < 500
    print(f"{host}:{port}{path} answers {status or 'nothing'}")
    return 0 if is_well else 1


def address(first: str, note: str) -> str:
    """Returns host, port and path of the server that the process *first* runs, "" for none; kept in the file *note*."""
    run = _run(first)
    known, _, asked = _read(note).partition("\n")
    if known != run:
        with open(f"{first}/cmdline", "rb") as file:
            words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        asked = _server(words)
        _write(note, f"{run}\n{asked}")
    return asked


def _run(first: str) -> str:
    """Returns when the first process of the container began, in ticks: different in each run of the container."""
    with open(f"{first}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def _server(words: list[str]) -> str:
    """Returns host, port and path of the server that a command line of these words runs, "" if it runs none."""
    from proxy.cli import parse
    from proxy.cli.arguments import load
    from proxy.cli.offline_commands import emulate
    from proxy.cli.server_commands import serve
    from proxy.commands.control import from_here

    is_ours = [os.path.basename(word) in {"proxy", "graph-sidecar"} for word in words]
    if True not in is_ours:
        return ""
    options = parse(words[is_ours.index(True) + 1 :])
    if options.run is serve:
        at = from_here(load(options).settings.admin)
        return f"{at.host} {at.port} /readyz"
    if options.run is emulate:
        at = from_here(options.listen)
        return f"{at.host} {at.port} /"
    return ""


def status_of(host: str, port: int, path: str) -> int:
    """Returns the status of the answer to a GET, 0 for no answer."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head = connection.recv(16, socket.MSG_WAITALL)
        return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0
    except (OSError, ValueError, IndexError):
        return 0


def _read(note: str) -> str:
    """Returns the text of the file *note*, "" if it is missing or not this user's own."""
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor) as file:
            status = os.fstat(descriptor)
            is_own = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
            return file.read() if is_own else ""
    except (OSError, ValueError):
        return ""


def _write(note: str, text: str) -> None:
    """Write *text* to the file *note*; if that fails, the next run finds the address again."""
    try:
        if os.path.lexists(note):
            os.unlink(note)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(note, flags, 0o600), "w") as file:
            file.write(text)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
