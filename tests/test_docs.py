"""What users read: no link leads nowhere, and no setting is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.settings import names

HOUSE = Path(__file__).parents[1]
PAGES = [HOUSE / "README.md", HOUSE / "SECURITY.md", HOUSE / "config/kubernetes/README.md", *HOUSE.glob("docs/*.md")]


def anchors(page: Path) -> set[str]:
    """The headings of *page* as links name them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    """A link to one of our own files finds it there, and the heading in it."""
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_room_is_named_that_is_gone(page: Path) -> None:
    """Where a page sends somebody into the code, there is that file or folder."""
    rooms = re.findall(r"`(?:proxy/)?((?:shell|core|app|cli|emulator)/[\w/]+)(?:\.py)?`", page.read_text())
    assert [room for room in rooms if not list((HOUSE / "proxy").glob(f"{room}*"))] == []


def listed() -> Iterator[str]:
    """The settings in the README's table; a name after another's is of the same section."""
    table = (HOUSE / "README.md").read_text().partition("| setting | default |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        section = ""
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            plain = name.strip("[]")
            section = plain.rpartition(".")[0] if "." in plain else section
            yield plain if "." in plain or not section else f"{section}.{plain}"


def test_the_readme_lists_every_setting() -> None:
    """Each once, and none that there is not."""
    assert sorted(listed()) == sorted(names())
