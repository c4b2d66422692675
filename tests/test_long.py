"""The parts of `make long`: each test that searches further there is in one of them, and none stops the others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "long"
SEARCHES = re.compile(r"\bimport .*\b(EFFORT|LONG)\b|^from hypothesis", re.MULTILINE)


def _long(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([script, *words], capture_output=True, text=True, check=False)


def _covered() -> list[str]:
    """The folders and files that the parts name."""
    braces = re.compile(r"(tests/[\w/]*)\{([^}]*)\}([\w/.]*)")
    named = SCRIPT.read_text()
    found = [f"{before}{each}{behind}" for before, inner, behind in braces.findall(named) for each in inner.split(",")]
    return found + re.findall(r"tests/[\w/.]*\w", braces.sub("", named))


def test_every_test_that_searches_further_is_in_a_part() -> None:
    """Of the tests that `make long` shows more, or that run nowhere else."""
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if SEARCHES.search(file.read_text())]
    named = [ROOT / each for each in _covered()]
    assert len(files) > 20
    assert [file for file in files if not any(file.is_relative_to(each) for each in named)] == []
    assert [each for each in named if not each.exists()] == []


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """At the end each part is named with what became of it; the status says whether one failed."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *tests/fuzz*) exit 1 ;; esac\n')
    python.chmod(0o700)
    script = tmp_path / "scripts" / "long"
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    told = _long(script, "inputs", "disk")
    assert told.returncode == 1
    assert [line.split()[::5] for line in told.stdout.splitlines()[-2:]] == [["inputs", "FAILED"], ["disk", "passed"]]
    assert _long(script, "disk").returncode == 0


def test_a_part_that_there_is_not_is_told() -> None:
    """Before anything is run."""
    told = _long(SCRIPT, "chaos", "soaking")
    assert (told.returncode, told.stdout) == (2, "")
    assert "soaking" in told.stderr
    assert "chaos disk" in told.stderr
