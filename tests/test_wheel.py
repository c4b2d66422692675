"""What `make wheel` builds: all that the product needs, and nothing of what stands around it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as scripts/wheel does."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_what_is_in_it(wheel: Path) -> None:
    """Every file of the package, the pages and hooks that are no Python included, and no folder beside it."""
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    here = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "proxy").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == here
    assert wheel.name.endswith("-py3-none-any.whl"), "one file for every Python and system"


def test_it_runs_from_what_is_in_it(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, the command finds all that it needs, its dashboard too."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    look = (
        "import proxy; from proxy.shell.admin.dashboard import PAGE; "
        "print(proxy.__file__, (PAGE / 'index.html').exists())"
    )
    said = subprocess.check_output([sys.executable, "-c", look], cwd=tmp_path, text=True)
    assert said.split() == [str(tmp_path / "proxy" / "__init__.py"), "True"]


def test_its_pins_are_those_of_the_image() -> None:
    """Beside it lie the versions with which it was tested."""
    assert "cp requirements/run.txt dist/requirements.txt" in (ROOT / "scripts" / "wheel").read_text()
    assert "requirements/run.txt" in (ROOT / "Dockerfile").read_text()
