"""The demo as a person meets it: what it counts, what it prints, and that nothing of it stays behind."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from proxy.commands.demo import show, traffic
from proxy.commands.demo.callers import CallersReport
from proxy.commands.demo.pace import Machine, busy_share
from proxy.commands.demo.processes import DemoProcess, PartError, ending

DEMO = [sys.executable, "-m", "proxy", "demo", "--quick"]
unmeasured = pytest.mark.no_cover  # another test walks what it walks; measuring it would double its time
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here to look for processes")


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """A mark that every process of a demo inherits, and a folder for what it keeps; what is left of both."""
    mark = f"DEMO_OF_A_TEST={uuid.uuid4()}"
    monkeypatch.setenv(*mark.split("="))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def left() -> list[Path]:
        ours = Path(f"/proc/{os.getpid()}")
        return [
            *(each for each in Path("/proc").glob("[0-9]*") if each != ours and _has(each, mark)),
            *tmp_path.glob("*"),
        ]

    return left


def _has(process: Path, mark: str) -> bool:
    try:
        return mark.encode() in (process / "environ").read_bytes()
    except OSError:  # it has just ended
        return False


class Terminal:
    """A demo that believes to be on a terminal of 80 columns."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self._raw, self.text = b"", ""
        self.process = subprocess.Popen(
            DEMO,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"},
        )
        os.close(theirs)

    def read_until(self, words: str) -> str:
        """Everything up to *words*; the test's own time limit ends this."""
        while words not in self.text:
            self._read()
        return self.text

    def status(self) -> int:
        """Its exit status, once it has said all."""
        while self._read():
            pass
        return self.process.wait()

    def _read(self) -> bool:
        try:
            found = os.read(self._ours, 65536)
        except OSError:  # nobody is at the other end any more
            found = b""
        self._raw += found
        self.text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._raw.decode(errors="replace"))
        return bool(found)

    @property
    def has_cursor(self) -> bool:
        """Whether the cursor was shown again after it had been hidden."""
        return self._raw.rfind(b"\x1b[?25h") > self._raw.rfind(b"\x1b[?25l") > 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def on_a_terminal() -> Iterator[Terminal]:
    """A demo that is ended whatever the test does."""
    terminal = Terminal()
    try:
        yield terminal
    finally:
        terminal.close()


@needs_proc
def test_the_demo_counts_the_savings_honestly(marked: Callable[[], list[Path]]) -> None:
    """Without a terminal the demo ends by itself, its numbers add up, and nothing of it stays behind."""
    done = subprocess.run(DEMO, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    def row(name: str) -> list[int]:
        found = re.search(rf"^ *{re.escape(name)} +(.*)$", done.stdout, re.MULTILINE)
        assert found, f"no row called {name}"
        return [int(each.replace(",", "")) for each in re.findall(r"(?<![-+.\d])[\d,]+(?![\d%.])", found[1])]

    asked = row("GETs asked")[0] + row("changes posted")[0]
    direct, through = row("calls Graph counted")
    assert direct == asked
    # Collapsed and fresh are the sidecar's word; what they leave is the emulator's.
    assert through == asked - row("avoided: collapsed")[0] - row("avoided: fresh *")[0]
    assert row("HTTP calls made")[0] == asked
    assert row("HTTP calls made")[1] < through
    assert "failed" not in done.stdout
    assert "━" not in done.stdout
    assert not marked()


@unmeasured
def test_the_demo_stays_up_on_a_terminal(marked: Callable[[], list[Path]]) -> None:
    """On a terminal the sidecar stays up, the three lines to try work as printed, and Ctrl-C is the good end."""
    if not shutil.which("curl"):
        pytest.skip("no curl here to try the lines with")
    with on_a_terminal() as terminal:
        shown = terminal.read_until("Ctrl-C ends it.")
        ask, change, stats = re.findall(r"^curl .*$", shown, re.MULTILINE)
        assert "fwd=uri-miss; stored" in _said(ask)
        assert "fwd=stale; fwd-status=304" in _said(ask)
        assert '{"success":true}' in _said(change)
        assert '"name":"Me"' in _said(ask)
        assert '"calls_avoided"' in _said(stats)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.status() == 0
    assert "Traceback" not in terminal.text
    assert not marked()


def _said(command: str) -> str:
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=60).stdout


@unmeasured
@needs_proc
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_demo_can_be_interrupted(marked: Callable[[], list[Path]], number: signal.Signals, status: int) -> None:
    """Whoever has seen enough in the middle gets a quiet end, the cursor back, and no process left over."""
    with on_a_terminal() as terminal:
        terminal.read_until(" / ")  # the count beside the bar
        terminal.process.send_signal(number)
        assert terminal.status() == status
    assert terminal.has_cursor
    assert "Traceback" not in terminal.text
    assert not marked()


@unmeasured
@needs_proc
def test_nothing_survives_a_demo_that_is_killed(marked: Callable[[], list[Path]]) -> None:
    """Even after kill -9 the emulator, the sidecar and its folder are gone: nobody has to hunt for them."""
    with on_a_terminal() as terminal:
        terminal.read_until(" / ")  # the count beside the bar
        terminal.process.kill()
        terminal.status()
        deadline = time.monotonic() + 20
        while marked() and time.monotonic() < deadline:
            time.sleep(0.02)  # they are nobody's children any more, so there is nothing to wait for
    assert not marked()


def test_a_part_that_fails_tells_why() -> None:
    """When a process of the demo cannot start, its last words are the message, and no process waits for it."""
    with ending() as told, DemoProcess("nobody", told) as part, pytest.raises(PartError, match="nobody: KeyError"):
        part.receive()


def test_the_same_traffic_goes_both_ways() -> None:
    """Both ways get the same requests, most of them asked before: that is what makes them comparable."""
    teams = [
        traffic.Team(token, tuple((f"act_{token}_{n}", tuple(f"{n}{m}" for m in range(25))) for n in range(3)))
        for token in traffic.TOKENS
    ]
    first, second = (traffic.plan_visits(teams, callers=300, seconds=10) for _ in range(2))
    assert first == second
    asked = [ask for caller in first for visit in caller for ask in visit.asks]
    reads = [ask for ask in asked if not ask.body]
    assert len(set(reads)) < len(reads) / 10
    assert 0 < len(asked) - len(reads) < len(reads) / 50


def test_what_warms_up_leaves_nothing_for_later() -> None:
    """The warm-up sends the beginning of the same traffic, and no read of it is one of the reads that are counted."""
    teams = [traffic.Team(token, ((f"act_{token}", tuple(map(str, range(25)))),)) for token in traffic.TOKENS]
    visits = traffic.plan_visits(teams, callers=60, seconds=5)
    warming = traffic.warm_up(visits, 2)
    sent, counted = (
        {ask.target for each in some for visit in each for ask in visit.asks} for some in (warming, visits)
    )
    assert sent
    assert sent.isdisjoint(counted)
    assert max(visit.at for each in warming for visit in each) < 2


@pytest.mark.parametrize(
    "others, ratio, slowness, is_busy",
    [
        (0.02, 1.05, 1.0, False),
        (0.02, 1.25, 1.0, False),
        (0.5, 1.1, 1.0, True),
        (None, 2.5, 2.0, True),
        (0.9, 9.0, 3.0, True),
    ],
)
def test_a_busy_machine_plays_more_slowly(
    others: float | None, ratio: float, slowness: float, *, is_busy: bool
) -> None:
    """In proportion to how late replies are, and not for ever; an idle machine plays as planned."""
    machine = Machine(others, ratio)
    assert (machine.slowness, machine.is_busy) == (slowness, is_busy)


def test_what_others_take_is_read_off_the_ticks() -> None:
    """Idle and waiting for a disk is not taken; without readings nothing is claimed."""
    assert busy_share([0] * 8, [30, 0, 10, 50, 10, 0, 0, 0]) == pytest.approx(0.4)
    assert busy_share([], []) is None


def told(machine: Machine, median_ms: float) -> str:
    """What the demo prints of a run on *machine* in which replies took so long."""
    written = io.StringIO()
    console = Console(file=written, width=100, no_color=True)
    way = show.Run(100, 50, (2,), 10, 1000, CallersReport(0, median_ms, median_ms))
    scene = show.Scene(300, 6, 10, 80, 30, 100, 0).on(machine)
    show.results(console, scene, way, way, {"calls_avoided": {}, "replies": {"MISS": 1}})
    return " ".join(written.getvalue().split())


def test_the_demo_says_if_the_machine_is_busy() -> None:
    """An idle machine needs no word; a busy one is told of; times that say nothing are left out."""
    idle, busy, hopeless = told(Machine(0.02, 1.05), 84), told(Machine(0.9, 2.5), 170), told(Machine(0.9, 9.0), 900)
    assert "not idle" not in idle
    assert "median latency 84 ms" in idle
    assert "This machine is slow or not idle. 90% of its processor time was taken before the demo began." in busy
    assert "played 2 times as slowly, with Graph 160 ms away" in busy
    assert "Replies were late even so" not in busy
    assert "Replies were late even so" in hopeless
    assert "latency" not in hopeless


@needs_proc
def test_several_replicas_are_shown_beside_one(
    marked: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What Graph counted each way; nothing stays behind, the store included; TMPDIR may be too long for a socket."""
    (folder := tmp_path / ("long" * 15)).mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("no redis-server here; Debian: apt-get install redis-server")
    done = subprocess.run([*DEMO, "--replicas", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    head, counted = (
        next(line for line in done.stdout.splitlines() if word in line) for word in ("2 replicas", "counted")
    )
    assert ["one sidecar" in head, "directly" in head] == [True, True]
    direct, *ways = (int(number.replace(",", "")) for number in counted.split()[3:])
    assert all(0 < each < direct for each in ways)
    joined = re.search(r"([\d,]+) were led and ([\d,]+) joined", " ".join(done.stdout.split()))
    assert joined is not None
    assert int(joined[2].replace(",", "")) > 0  # each token's callers are spread over all replicas
    folder.rmdir()  # it is empty
    assert marked() == []


def test_replicas_without_a_store_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = subprocess.run([*DEMO, "--replicas", "2"], capture_output=True, text=True, check=False)
    assert (done.returncode, "redis-server" in done.stderr, done.stdout) == (1, True, "")
    refused = subprocess.run([*DEMO, "--replicas", "1"], capture_output=True, text=True, check=False)
    assert (refused.returncode, "from 2 to 16" in refused.stderr) == (2, True)
