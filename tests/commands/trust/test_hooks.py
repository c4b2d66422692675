"""What Python loads when it starts: all that a program finds is as it was, but for the bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from proxy.commands import trust

TELL = """
import json, sys, certifi
where, text = certifi.where(), certifi.contents()
site = sys.modules.get("sitecustomize")
print(json.dumps([where, text, sys.path, getattr(site, "MINE", None)]))
"""


@pytest.fixture
def told(tmp_path: Path) -> trust.TrustContext:
    """Files for a program that runs in the test's own Python."""
    return laid(trust.TrustContext(tmp_path / "ours", frozenset({"graph.facebook.com"}), {}))


def laid(told: trust.TrustContext) -> trust.TrustContext:
    """*told*, with its files."""
    for path, content in trust.files(told, b"").items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return told


def python(program: str, pythonpath: str) -> Any:
    """What a *program* in Python prints, as JSON; it must be silent else."""
    environ = {**os.environ, "PYTHONPATH": pythonpath}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert not done.stderr
    return json.loads(done.stdout)


def test_certifi_names_the_bundle(told: trust.TrustContext) -> None:
    """By its path and by its text; nothing else of the program's Python has changed."""
    where, text, path, _ = python(TELL, trust.trusting(told)["PYTHONPATH"])
    assert (where, text) == (str(told.bundle), told.bundle.read_text())
    assert path == python(TELL, "")[2]


def test_a_hook_of_the_users_is_run(told: trust.TrustContext, tmp_path: Path) -> None:
    """The sitecustomize that Python would find without ours, where it imports certifi itself, too."""
    (tmp_path / "sitecustomize.py").write_text("import certifi; MINE = certifi.where()")
    trusting = trust.trusting(trust.TrustContext(told.folder, told.names, {"PYTHONPATH": str(tmp_path)}))
    where, _, path, mine = python(TELL, trusting["PYTHONPATH"])
    assert mine is not None
    assert where == str(told.bundle)
    assert path[1] == str(tmp_path)


def test_a_sidecar_within_another_names_its_own_bundle(told: trust.TrustContext, tmp_path: Path) -> None:
    """`run` under `run`, or in a shell that took `ca env`: the inner one's."""
    inner = laid(trust.TrustContext(tmp_path / "inner", told.names, trust.trusting(told)))
    where, _, path, _ = python(TELL, trust.trusting(inner)["PYTHONPATH"])
    assert where == str(inner.bundle)
    assert path == python(TELL, "")[2]


def test_a_hook_that_fails_fails_alone(told: trust.TrustContext, tmp_path: Path) -> None:
    """Python tells of it as it does without ours, and certifi names the bundle."""
    (tmp_path / "sitecustomize.py").write_text("raise ValueError")
    environ = {**os.environ, "PYTHONPATH": f"{told.folder / 'python'}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", TELL], env=environ, capture_output=True, text=True, check=True)
    assert "Error in sitecustomize" in done.stderr
    assert json.loads(done.stdout)[0] == str(told.bundle)


def test_a_program_that_outlives_run_trusts_as_before(told: trust.TrustContext) -> None:
    """The bundle went with the folder."""
    end = f"import os; os.unlink({str(told.bundle)!r})\n"
    where, text, _, _ = python(end + TELL, trust.trusting(told)["PYTHONPATH"])
    assert where == certifi.where()
    assert text == certifi.contents()


def test_a_program_without_certifi_is_as_it_was(told: trust.TrustContext) -> None:
    """Nothing is found that is not there."""
    program = "import json, sys\nsys.path = []\ntry: import certifi\nexcept ImportError: print(json.dumps('none'))"
    assert python(program, trust.trusting(told)["PYTHONPATH"]) == "none"
