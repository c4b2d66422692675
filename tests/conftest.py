"""What every test stands on: a machine of its own, and the real clients' environments."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's reaches a test, and no test reaches the developer's cache or key."""
    for name in [name for name in os.environ if name.startswith("GRAPH_SIDECAR_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """What runs the programs of a real client's environment, by name: `clients`, `tap-facebook`, or `node`: Node."""

    def find(name: str) -> Path:
        home = ROOT / ".venvs" / name
        runs = home / "bin" / ("node" if name == "node" else "python")
        if not (home / ".installed").exists() or not runs.exists():
            pytest.skip(f"no environment of {name}; `make environments` builds it")
        return runs

    return find
