"""No crash writes tokens to a disk: `serve` and `run` forbid core dumps of themselves, and of nobody else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HARD = resource.getrlimit(resource.RLIMIT_CORE)[1]
needs_dumps = pytest.mark.skipif(
    sys.platform != "linux" or HARD != resource.RLIM_INFINITY, reason="core dumps are not to be had here"
)
ALLOWED = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", sys.executable, "-m", "proxy"]
"""Starts our command where everything may be dumped."""


def crash(folder: Path, *sets: str) -> bool:
    """Whether a `serve` that crashes leaves a core dump."""
    given = ["listen=127.0.0.1:0", "admin=127.0.0.1:0", f"cache.dir={folder / 'c'}", f"cache.key_file={folder / 'k'}"]
    command = [*ALLOWED, "serve", *(word for each in (*given, *sets) for word in ("--set", each))]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "serving" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGABRT)
        _pid, status = os.waitpid(process.pid, 0)
        process.returncode = -signal.SIGABRT
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


@needs_dumps
def test_a_crash_leaves_no_dump(tmp_path: Path) -> None:
    """Whatever limit `serve` is started with, its memory goes nowhere; `core_dumps` leaves it to the system."""
    assert not crash(tmp_path)
    if not crash(tmp_path, "core_dumps=true"):
        pytest.skip("the system dumps nothing here, so the test tells nothing")


@needs_dumps
def test_what_run_starts_keeps_its_own_limit(tmp_path: Path) -> None:
    """A command is dumped or not as it would be without us, and `run` itself is not."""
    tell = (
        "import os, pathlib, resource\n"
        "limits = pathlib.Path(f'/proc/{os.getppid()}/limits').read_text().splitlines()\n"
        "above = next(line for line in limits if line.startswith('Max core file size')).split()[4]\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0] == resource.RLIM_INFINITY, above)"
    )
    given = [f"cache.dir={tmp_path / 'c'}", f"cache.key_file={tmp_path / 'k'}", f"intercept.ca_dir={tmp_path / 'ca'}"]
    sets = [word for each in given for word in ("--set", each)]
    command = [*ALLOWED, "run", *sets, "--", sys.executable, "-c", tell]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr
