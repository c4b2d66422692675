"""A machine of its own under systemd: a small Debian in a folder, booted by systemd-nspawn, with loopback alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.engines.waiting import BOUND_S, until

PACKAGES = "systemd,systemd-sysv,python3,python3-venv,libnss-systemd,dbus"


@dataclass(frozen=True)
class Machine:
    """One machine that runs."""

    tree: Path
    leader: int

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in it."""
        inside = ["nsenter", "--target", str(self.leader), "--all", *words]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=BOUND_S)
        assert not check or done.returncode == 0, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}{self.journal()}"
        )
        return done

    def shell(self, line: str) -> str:
        """What a line of shell prints in it."""
        return self.run("sh", "-c", line).stdout

    def show(self, name: str, unit: str = "graph-sidecar") -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str = "graph-sidecar") -> str:
        """What a unit has written so far, its manager's lines included."""
        words = ["journalctl", "--no-pager", "--output", "cat", "--unit", unit]
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", *words], capture_output=True, text=True, check=False
        )
        return done.stdout


def made_tree(folder: Path) -> Path:
    """A tree with systemd, and the program in /opt, as docs/systemd.md has it; made once, the program each time."""
    tree = folder / "bookworm"
    subprocess.run([ROOT / "scripts" / "tree", tree, "bookworm", PACKAGES], cwd=ROOT, check=True)
    subprocess.run([ROOT / "scripts" / "wheel"], cwd=ROOT, check=True, capture_output=True)
    shutil.rmtree(tree / "root" / "dist", ignore_errors=True)
    shutil.copytree(ROOT / "dist", tree / "root" / "dist")
    wheels = tree / "root" / "wheels"
    fetch = [
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        "3.11",
        "--dest",
        str(wheels),
    ]
    # Markers speak of the Python that fetches, which may be newer than the tree's.
    pins = re.sub(r" ; python_full_version [^\\]*", " ", (ROOT / "requirements" / "run.txt").read_text())
    (tree / "root" / "pins.txt").write_text(pins)
    words = [".venv/bin/python", "-m", *fetch, "--require-hashes", "-r", str(tree / "root" / "pins.txt")]
    subprocess.run(words, cwd=ROOT, check=True)
    steps = """
    rm -rf /opt/graph-sidecar
    python3 -m venv /opt/graph-sidecar
    pip="/opt/graph-sidecar/bin/pip install --quiet --no-index --find-links /root/wheels"
    $pip --require-hashes --requirement /root/dist/requirements.txt
    $pip --no-deps /root/dist/*.whl
    """
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(["chroot", tree, "sh", "-ec", steps], check=True, env=environ)
    return tree


@contextmanager
def booted(tree: Path) -> Iterator[Machine]:
    """A machine on a copy of *tree*, whose changes are gone afterwards."""
    words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=no"]
    process = subprocess.Popen(
        [*words, "--directory", tree, "--boot"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: bool(_children(process.pid)) or process.poll() is not None, "the machine's first process")
        assert process.poll() is None, "systemd-nspawn does not work here"
        machine = Machine(tree, _children(process.pid)[0])
        until(lambda: "running" in _state(machine) or "degraded" in _state(machine), "the machine to boot")
        yield machine
    finally:
        process.terminate()
        process.wait()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _state(machine: Machine) -> str:
    return machine.run("systemctl", "is-system-running", check=False).stdout
