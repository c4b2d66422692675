"""The wheel on each supported Python that this machine has, the newest out of a small Debian: `make long`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONG, ROOT

pytestmark = [pytest.mark.skipif(not LONG, reason="takes minutes: make long"), pytest.mark.timeout(900)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]


def _found(version: str) -> str | None:
    """A Python of this version on the machine; one that a version manager only pretends to have is none."""
    program = shutil.which(f"python{version}")
    managed = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for each in (program, *map(str, managed)):
        if each and subprocess.run([each, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return each
    return None


@pytest.fixture(scope="module")
def wheel() -> Path:
    """What `make wheel` makes."""
    subprocess.run([ROOT / "scripts" / "wheel"], cwd=ROOT, check=True, capture_output=True)
    (made,) = (ROOT / "dist").glob("*.whl")
    return made


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The words that run each Python."""
    version: str = request.param
    if found := _found(version):
        yield [found]
        return
    if version != PYTHONS[-1] or os.geteuid() != 0:
        pytest.skip(f"no Python {version} here")
    tree = ROOT / ".venvs" / "trees" / "forky"
    subprocess.run(
        [ROOT / "scripts" / "tree", tree, "forky", "python3,python3-venv,ca-certificates"], cwd=ROOT, check=True
    )
    inside = ["chroot", str(tree), f"python{version}"]
    subprocess.run(["mount", "-t", "proc", "proc", tree / "proc"], check=True)
    try:
        yield inside
    finally:
        subprocess.run(["umount", tree / "proc"], check=True)


def test_the_demo_runs(python: list[str], wheel: Path, tmp_path: Path) -> None:
    """Every pin has a wheel for it; what is installed saves calls, and no Python warns of what is to go."""
    version = subprocess.check_output(
        [*python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
    ).strip()
    home = Path(f"{python[1]}/root/tried" if python[0] == "chroot" else tmp_path / "tried")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    fetch = ["download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", version, "--dest", str(home)]
    pins = ["--require-hashes", "-r", "requirements/run.txt"]
    subprocess.run([".venv/bin/python", "-m", "pip", *fetch, *pins], cwd=ROOT, check=True)
    shutil.copy(wheel, home)
    there = "/root/tried" if python[0] == "chroot" else str(home)
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": there, "PYTHONWARNINGS": "error"}
    enter = python[:-1]
    for words in (
        [*python, "-W", "ignore", "-m", "venv", f"{there}/env"],
        [*enter, "sh", "-c", f"PYTHONWARNINGS= {there}/env/bin/pip install -q --no-index --no-deps {there}/*.whl"],
        [
            *enter,
            f"{there}/env/bin/graph-sidecar",
            "check",
            "--set",
            "listen=127.0.0.1:0",
            "--set",
            "admin=127.0.0.1:0",
        ],
    ):
        subprocess.run(words, check=True, env=environ)
    demo = subprocess.run(
        [*enter, f"{there}/env/bin/graph-sidecar", "demo"], env=environ, capture_output=True, text=True, check=True
    )
    assert "calls Graph counted" in demo.stdout, demo.stderr
