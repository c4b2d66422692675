import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy

HOUSE = Path(proxy.__file__).parent


def imported(folder: Path) -> Iterator[str]:
    """Our own modules that the files in *folder* import, late imports too."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file} imports by a relative name"
                names = [node.module or ""]
                if node.module == "proxy":
                    names = [f"proxy.{alias.name}" for alias in node.names]
            yield from (name for name in names if name.split(".")[0] == "proxy")


@pytest.mark.parametrize(
    "folder, may",
    [
        ("core", {"proxy.core"}),
        ("shell", {"proxy.core", "proxy.shell"}),
        ("emulator", {"proxy.emulator"}),
    ],
)
def test_imports_run_one_way(folder: str, may: set[str]) -> None:
    """Core stands on nothing of ours, shell on core alone, and the offline Graph on neither."""
    assert {".".join(name.split(".")[:2]) for name in imported(HOUSE / folder)} <= may


@pytest.mark.parametrize("folder", [".", "core", "shell"])
def test_the_map_names_every_room(folder: str) -> None:
    """The package's docstring is where a newcomer begins: what is not on it is not found."""
    told = set(re.findall(r"\w+", proxy.__doc__ or ""))
    rooms = {path.stem for path in (HOUSE / folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {room for room in rooms if not room.startswith("_")} <= told
