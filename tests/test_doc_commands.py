"""What the pages tell a reader to type works as it stands there.

Bash runs each block of `sh`, beside a real sidecar and the offline Graph, without network; its ports are mapped to free
ones. A block `sh needs: docker` needs what a test does not have: bash reads it, and the command line parses each
`graph-sidecar` in it. Other blocks are read by what reads their language.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from proxy.cli.commands import COMMANDS
from proxy.cli.main import parse
from proxy.settings.load import load
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("docs/*.md"), ROOT / "config/kubernetes/README.md"]
PORTS = ("127.0.0.1:8080", "127.0.0.1:9180", "127.0.0.1:8081")
_FENCE = re.compile(r"^```(\w*)(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
_OURS = re.compile(rf"graph-sidecar ((?:{'|'.join(COMMANDS)})\b[^|;#\n`]*?)(?: &|[|;#\n`]|$)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, what it needs, its text."""

    page: str
    language: str
    needs: str
    text: str

    def __str__(self) -> str:
        """Name the test after the page and the first line."""
        return f"{self.page}: {self.text.splitlines()[0][:50]}"


def blocks(language: str) -> list[Block]:
    """Every block of this language in all pages."""
    return [
        Block(page.name, found, needs.strip().removeprefix("needs: "), text)
        for page in PAGES
        for found, needs, text in _FENCE.findall(page.read_text())
        if found == language
    ]


def spans() -> list[Block]:
    """Every `curl` inside a sentence, as a block."""
    inside = re.compile(r"`(curl [^`\n]*http:[^`\n]+)`")
    texts = {page.name: _FENCE.sub("", page.read_text()) for page in PAGES}
    return [Block(name, "sh", "", found) for name, text in texts.items() for found in inside.findall(text)]


RUN = [block for block in blocks("sh") if not block.needs] + spans()
NEEDY = [block for block in blocks("sh") if block.needs]


@dataclass(frozen=True)
class Machine:
    """A home of its own, with the checkout's environment and configuration in it, and three ports."""

    home: Path
    ports: tuple[str, ...]

    def environ(self) -> Mapping[str, str]:
        """Nothing of the developer's: a path, a home, a token, and where this machine's sidecar and Graph are."""
        listen, admin, graph = self.ports
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "TOKEN": "any",
            "GRAPH_SIDECAR_LISTEN": listen,
            "GRAPH_SIDECAR_ADMIN": admin,
            "GRAPH_SIDECAR_UPSTREAM__ORIGIN": f"http://{graph}",
        }

    def start(self, script: str, output: Path) -> subprocess.Popen[bytes]:
        """Begin *script* by bash, in a group of its own."""
        for here, there in zip(PORTS, self.ports, strict=True):
            script = script.replace(here, there)
        script = script.replace("graph-sidecar emulate", f"graph-sidecar emulate --listen {self.ports[2]}")
        with output.open("wb") as out:
            return subprocess.Popen(
                ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", script],
                cwd=self.home,
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def run(self, script: str) -> str:
        """All that *script* prints; what it leaves running is ended."""
        output = self.home / "output"
        process = self.start(script, output)
        try:
            status = process.wait(120)
        finally:
            _end(process)
        assert status == 0, output.read_text()
        return output.read_text()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def machine(home: Path) -> Machine:
    """A new machine in *home*."""
    for name, target in {".venv": Path(sys.prefix), "config": ROOT / "config"}.items():
        (home / name).symlink_to(target)
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    return Machine(home, tuple(f"127.0.0.1:{port}" for port in itertools.islice(_free_ports(), len(PORTS))))


def _free_ports() -> Iterator[int]:
    """Ports that nothing listens on, below those that the system itself gives to other tests."""
    for port in random.sample(range(20_000, 32_000), 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            yield port


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which a sidecar and the offline Graph run, and have answered a few reads."""
    ours = machine(tmp_path_factory.mktemp("serving"))
    begin = "graph-sidecar emulate & exec graph-sidecar serve 2>sidecar.log"
    process = ours.start(begin, ours.home / "servers")
    try:
        ours.run(
            "graph-sidecar wait; curl -s --retry 9 --retry-connrefused http://127.0.0.1:8081/v25.0/me?access_token=any"
        )
        ours.run("curl -s http://127.0.0.1:8080/v25.0/{me,me,111}?access_token=any")
        yield ours
    finally:
        _end(process)


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_runs_as_it_stands(block: Block, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It succeeds, says something, and nothing that it says is an error of the sidecar's or of Graph's."""
    starts_its_own = " &\n" in block.text
    ours: Machine = machine(tmp_path) if starts_its_own else request.getfixturevalue("serving")
    said = ours.run(block.text)
    assert said
    assert not re.search(r'"error":|no such|OAuthException', said), said


def test_the_first_try_shows_what_the_readme_says(tmp_path: Path) -> None:
    """The first reply is a miss, the second is revalidated."""
    first = next(block for block in RUN if block.page == "README.md" and "emulate" in block.text)
    told = re.findall(r"`(fwd=[^`]+)`, the second `(fwd=[^`]+)`", (ROOT / "README.md").read_text())
    said = re.findall(r"Cache-Status: graph-sidecar; (.*?)\r?\n", machine(tmp_path).run(first.text))
    assert said == list(told[0])


@pytest.mark.parametrize("block", NEEDY, ids=str)
def test_a_block_that_cannot_be_run_here_can_be_read(block: Block) -> None:
    """Bash reads it; its targets of make and its files of ours exist."""
    subprocess.run(["/usr/bin/env", "bash", "-n", "-c", block.text], check=True)
    for target in re.findall(r"^make (\w+)", block.text, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"(?<![\w/.])config/[\w./-]+", block.text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "changelog.md"], ids=lambda page: page.name)
def test_every_command_line_parses(page: Path) -> None:
    """Wherever a page says `graph-sidecar` and a command, in a block or in a line, the real parser takes it."""
    text = page.read_text()
    spans = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)) + [found[2] for found in _FENCE.findall(text)]
    for words in (found for span in spans for found in _OURS.findall(span.replace("\\\n", " "))):
        arguments = shlex.split(words.rstrip(')"'))
        if len(arguments) > 1 and "…" not in words and "--help" not in words:
            parse(arguments)


def test_every_command_has_its_row() -> None:
    """docs/commands.md names each command once."""
    rows = re.findall(r"^\| `(\w+)", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_no_command_hides_in_a_block_without_language() -> None:
    """What has no language is output or a drawing."""
    for block in blocks(""):
        assert not re.search(
            r"^(\$ |curl |make |docker |kubectl |(\.venv/bin/)?graph-sidecar )", block.text, re.MULTILINE
        ), block


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_in_a_page_are_settings(block: Block, tmp_path: Path) -> None:
    """The model takes them."""
    file = tmp_path / "settings.toml"
    file.write_text(block.text)
    assert tomllib.loads(block.text)
    load(file=file)


def test_other_blocks_are_what_they_say() -> None:
    """JSON, YAML and Python as their readers take them."""
    for block in blocks("json"):
        json.loads(block.text)
    for block in blocks("yaml"):
        yaml.safe_load(block.text)
    for block in blocks("python"):
        ast.parse(block.text)
    known = {"", "sh", "toml", "json", "yaml", "python"}
    assert {found[0] for page in PAGES for found in _FENCE.findall(page.read_text())} <= known
