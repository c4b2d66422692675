"""Imports run one way, no two folders import each other, and every folder is on the map and small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import proxy

HOUSE = Path(proxy.__file__).parent
FOLDERS = sorted({file.parent for file in HOUSE.rglob("*.py")})
MOST_ENTRIES = 16
LAYERS = ["coalescer", "ids_splitter", "merger", "cache", "rate_limiter", "batcher"]
"""The layers of the pipeline in the order in which a read passes them."""
PLACES = [
    "admin",
    "downstream/shared",
    "downstream",
    "intercept",
    "pipeline/shared",
    "pipeline",
    "upstream",
    "http",
    "observe",
    "store",
    "valkey",
    "",
]
"""The folders of shell in the order in which a message passes them, then what serves all of them."""


def imported(file: Path) -> Iterator[str]:
    """The full names of everything of ours that *file* imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "proxy")
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports by a relative name"
            if (node.module or "").split(".")[0] == "proxy":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_of(name: str) -> Path:
    """The folder that holds the module that the imported *name* is, or is in."""
    path = HOUSE.parent.joinpath(*name.split("."))
    if path.is_dir():
        return path
    return path.parent if path.with_suffix(".py").exists() else folder_of(name.rpartition(".")[0])


@pytest.mark.parametrize(
    "folder, may",
    [
        ("core", {"core"}),
        ("shell", {"core", "shell"}),
        ("settings", {"core", "settings"}),
        ("app", {"core", "shell", "settings", "app"}),
        ("commands", {"core", "shell", "settings", "app", "commands", "dashboard", "emulator"}),
        ("emulator", {"emulator"}),
    ],
)
def test_imports_run_one_way(folder: str, may: set[str]) -> None:
    """Core imports core alone, shell core, app shell, commands app, the command line commands; the emulator nothing."""
    names = {name.split(".")[1] for file in (HOUSE / folder).rglob("*.py") for name in imported(file) if "." in name}
    assert names <= may


@pytest.mark.parametrize("place", ["", "shared/"])
def test_no_layer_stands_above_and_below_another(place: str) -> None:
    """A layer knows layers below it at most, so each call of a read goes down; nothing below calls back up."""
    order = [f"proxy.shell.pipeline.{name}" for name in LAYERS]
    for at, layer in enumerate(LAYERS):
        file = HOUSE / f"shell/pipeline/{place}{layer}.py"
        names = {name.replace(".shared.", ".") for name in imported(file)} if file.exists() else set()
        assert [above for above in order[:at] if any(name.startswith(f"{above}.") for name in names)] == [], layer


def test_every_folder_of_shell_has_its_place() -> None:
    """The order below says nothing about a folder that it leaves out."""
    shell = HOUSE / "shell"
    folders = {str(folder.relative_to(shell)) for folder in FOLDERS if folder.is_relative_to(shell)}
    assert {place or "." for place in PLACES} == folders


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place or "shell")
def test_a_place_of_shell_imports_places_further_on_alone(place: str) -> None:
    """A message goes from the caller to Graph, and no file on its way needs a place that the message has left."""
    shell = HOUSE / "shell"
    passed = {shell / name for name in PLACES[: PLACES.index(place)]}
    names = {(file.name, name) for file in (shell / place).glob("*.py") for name in imported(file)}
    assert sorted((file, name) for file, name in names if folder_of(name) in passed) == []


def test_no_two_folders_import_each_other() -> None:
    """A folder can be read without the folders that import it."""
    graph: dict[Path, set[Path]] = {}
    for file in HOUSE.rglob("*.py"):
        if file.name != "__init__.py":  # a package's face names what lies inside
            needs = graph.setdefault(file.parent, set())
            needs |= {folder for name in imported(file) if (folder := folder_of(name)) != file.parent}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(str(folder.relative_to(HOUSE)) for folder in circle.args[1]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(HOUSE)))
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    """No folder of code has more entries than a reader takes in at once."""
    entries = [entry for entry in folder.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES


def test_the_map_names_every_folder() -> None:
    """The package's docstring is where a newcomer begins: it has one line for each folder."""
    lines = re.findall(r"^ +([\w/]+)/ +\S", proxy.__doc__ or "", re.MULTILINE)
    inside = {str(folder.relative_to(HOUSE)) for folder in FOLDERS if folder != HOUSE}
    assert sorted(lines) == sorted({*inside, "dashboard"})


def test_the_client_of_the_shared_store_is_imported_in_its_folder_alone() -> None:
    """Its traps are known there; and who shares nothing does not load it."""
    outside = [file for file in HOUSE.rglob("*.py") if "valkey" not in file.parts]
    assert [
        str(file)
        for file in outside
        if re.search(r"^\s*(from|import) (redis|hiredis)\b", file.read_text(), re.MULTILINE)
    ] == []


def test_a_sidecar_that_shares_nothing_loads_no_client() -> None:
    """Without `shared.url` nothing is imported."""
    code = "import sys, proxy.app.sidecar; print([name for name in sys.modules if 'redis' in name or 'valkey' in name])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"
