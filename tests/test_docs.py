"""What users read: no link leads nowhere, and the settings' page is the model's."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest

from proxy.settings import is_live, names
from scripts import settings_pages

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    """Where a page names a test, or a file or folder of tests, there is that."""
    for path, _, name in re.findall(r"`(tests/[\w/.]+)(::(\w+))?`", page.read_text()):
        assert (HOUSE / path).exists(), path
        assert not name or re.search(rf"^(async )?def {name}\(", (HOUSE / path).read_text(), re.MULTILINE), name


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_every_claim_names_what_shows_it(page: str) -> None:
    """Each row of a table whose last column is a test, or a command, has a test or a command of make there."""
    rows = (HOUSE / "docs" / page).read_text().split("\n")
    heads = [at for at, row in enumerate(rows) if re.search(r"\| (test|command) \|$", row)]
    claims = [row for at in heads for row in takewhile(lambda row: row.startswith("|"), rows[at + 2 :])]
    assert len(claims) > 10
    assert [row for row in claims if not re.search(r"\| (`tests/\S+|`\w*=?\d* ?make |the same \|$)", row)] == []


def test_the_settings_pages_say_what_the_model_says() -> None:
    """docs/settings.md and the shipped file are what `make settings` writes."""
    assert settings_pages.PAGE.read_text() == settings_pages.page(), (
        "run `make settings` (or python -m scripts.settings_pages)"
    )
    assert settings_pages.FILE.read_text() == settings_pages.shipped(), (
        "run `make settings` (or python -m scripts.settings_pages)"
    )


def test_every_setting_has_a_row_that_says_whether_a_reload_changes_it() -> None:
    """Each setting once, none that does not exist, and *yes* where it is live."""
    rows = re.findall(
        r"^\| `([\w.]+)` \| [^|]+ \| [^|]+ \| (yes )?\| [^|]+ \|$", settings_pages.PAGE.read_text(), re.MULTILINE
    )
    assert rows == [(name, "yes " if is_live(name) else "") for name in names()]


def test_the_readme_is_read_in_five_minutes() -> None:
    """Its text before the list of differences is short, and its glossary has at most fifteen words."""
    text = (HOUSE / "README.md").read_text()
    to_read = re.sub(r"```.*?```|\]\([^)]*\)|[|`*#-]", " ", text.partition("## Glossary")[0], flags=re.DOTALL)
    assert len(to_read.split()) < 1000
    glossary = text.partition("| word | meaning |")[2].partition("\n\n")[0]
    assert len(glossary.splitlines()) - 2 <= 15
