"""What `make wheel` builds: all that the product needs, and nothing of what stands around it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(folder: Path, sources: Path = ROOT) -> Path:
    """Returns the wheel of *sources*, built in *folder* as scripts/wheel does."""
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(words, cwd=sources, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build(tmp_path_factory.mktemp("dist"))


def test_two_builds_are_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """Whoever builds the same sources gets the same wheel, whenever the files were written."""
    copy = tmp_path / "copy"
    shutil.copytree(
        ROOT / "proxy", copy / "proxy", ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, copy / name)
    assert build(tmp_path / "dist", copy).read_bytes() == wheel.read_bytes()


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


def pins(name: str) -> list[tuple[str, str, str]]:
    """Returns name, version and the following line of each pin in requirements/."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;]+).*\n(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "requirements").glob("*.txt")])
def test_every_pin_has_its_hashes(name: str) -> None:
    """What has other bytes under the same version is not installed, here or in the image."""
    assert pins(name)
    assert [pin for pin in pins(name) if "--hash=sha256:" not in pin[2]] == []
    for file in ("Dockerfile", "scripts/environment"):
        assert "--require-hashes" in (ROOT / file).read_text()


def test_the_bill_of_materials_names_each_pin(tmp_path: Path) -> None:
    """It lists what the sidecar runs with, by version and by the hashes of the files, and is the same each time."""
    if not (ROOT / ".venvs" / "sbom" / ".installed").exists():
        pytest.skip("no environment of sbom; `make environments` builds it")
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        subprocess.run([ROOT / "scripts" / "sbom", file], check=True, capture_output=True)
    told = json.loads(files[0].read_text())
    pins = re.findall(
        r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;]+)", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE
    )
    assert {(each["name"], each["version"]) for each in told["components"]} == set(pins)
    assert all(each["externalReferences"][0]["hashes"] for each in told["components"])
    assert told["metadata"]["component"]["name"] == "graph-sidecar"
    assert files[0].read_bytes() == files[1].read_bytes()
