"""What every test stands on: how far it searches, a machine of its own, and the real clients' environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Effort:
    """How far tests search that could search for ever."""

    examples: int
    """What each property is shown."""
    batches: int
    """Drawn batches that are sent to Graph itself and through the sidecar."""
    viewers: int
    """Callers that ask for one URL at once, each with a token of its own."""
    streamed: int
    """Bytes of a body that takes no memory."""
    storm: int
    """Requests amid replies that nobody asked for."""
    isolation: int
    """Requests of many tokens for one set of URLs."""


MIB = 1 << 20
LONG = "LONG_TESTS" in os.environ
EFFORT = (
    Effort(2000, 100_000, 1000, 2048 * MIB, 200_000, 1_000_000)
    if LONG
    else Effort(40, 400, 300, 64 * MIB, 3000, 50_000)
)

# By day the same examples each time, so that a failure is its change's own; `make long` draws new ones. No deadline:
# how fast an example is says more of the machine than of us.
hypothesis.settings.register_profile(
    "ours",
    max_examples=EFFORT.examples,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ours")


@pytest.fixture(autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's reaches a test, and no test reaches the developer's cache or key."""
    for name in [name for name in os.environ if name.startswith("GRAPH_SIDECAR_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


RUNNERS = {"clients": "python", "tap-facebook": "python", "node": "node"}


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """What runs the programs of an environment, by name: Python's and Node's hold libraries, the others are a link."""

    def find(name: str) -> Path:
        home = ROOT / ".venvs" / name
        runs = home / "bin" / RUNNERS.get(name, "run")
        if not (home / ".installed").exists() or not runs.exists():
            pytest.skip(f"no environment of {name}; `make environments` builds it")
        return runs

    return find


UNMEASURED = (
    "tests/browser/",
    "tests/chaos/",
    "tests/clients/",
    "tests/fuzz/",
    "tests/journeys/test_backoff.py",
    "tests/journeys/test_batch_trouble.py",
    "tests/journeys/test_batches.py",
    "tests/journeys/test_client_directives.py",
    "tests/journeys/test_conditional.py",
    "tests/journeys/test_dockerfile.py",
    "tests/journeys/test_drawn_batches.py",
    "tests/journeys/test_fleet_processes.py",
    "tests/journeys/test_hanging_disk.py",
    "tests/journeys/test_hostile.py",
    "tests/journeys/test_isolation.py",
    "tests/journeys/test_isolation_storm.py",
    "tests/journeys/test_ledger.py",
    "tests/journeys/test_lifecycle.py",
    "tests/journeys/test_memory.py",
    "tests/journeys/test_merged.py",
    "tests/journeys/test_meta_pages.py",
    "tests/journeys/test_overload.py",
    "tests/journeys/test_purge.py",
    "tests/journeys/test_reply_fidelity.py",
    "tests/journeys/test_secrets.py",
    "tests/journeys/test_service_manager.py",
    "tests/journeys/test_simulated.py",
    "tests/journeys/test_storm.py",
    "tests/journeys/test_stray_replies.py",
    "tests/journeys/test_streaming.py",
    "tests/journeys/test_traces.py",
    "tests/journeys/test_two_ways.py",
    "tests/journeys/test_upgrade.py",
    "tests/journeys/test_weight.py",
    "tests/journeys/test_what_is_a_read.py",
    "tests/journeys/test_writes.py",
    "tests/test_doc_commands.py",
)
"""Where what others cover already is walked again: by real clients, by processes, by thousands."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measuring coverage doubles the work of a test: those that cover nothing more do without."""
    for item in items:
        if str(item.path.relative_to(ROOT)).startswith(UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Processes that such a test starts, and those of its fixtures, are not measured either."""
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    with mock.patch.dict(os.environ):
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            os.environ.pop(name, None)
        return (yield)
