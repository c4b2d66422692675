"""All fuzz targets by name; the property test and the coverage-guided fuzzer share this table, and the corpora."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fuzz.targets import callers, graph, shared_store, stored
from tests.fuzz.targets.target import Target

TARGETS: dict[str, Target] = {**callers.TARGETS, **graph.TARGETS, **stored.TARGETS, **shared_store.TARGETS}

FOLDER = Path(__file__).parents[1] / "corpus"


def corpus_of(name: str) -> list[bytes]:
    """The kept inputs of a target."""
    return [each.encode("latin-1") for each in json.loads((FOLDER / f"{name}.json").read_text())]


def keep(name: str, inputs: list[bytes]) -> None:
    """Make *inputs* the kept ones of a target."""
    texts = [each.decode("latin-1") for each in sorted(inputs, key=lambda data: (len(data), data))]
    (FOLDER / f"{name}.json").write_text(json.dumps(texts, indent=1) + "\n")
