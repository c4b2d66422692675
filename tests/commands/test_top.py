"""`top`: what it shows on any terminal, and how it follows a sidecar over its restarts."""

from __future__ import annotations

import copy
import io
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from proxy import cli
from proxy.commands.top import event_stream, view
from proxy.commands.top.event_stream import FollowError, Snapshot, follow
from proxy.core.observe.time_series import COLUMNS, STEP_S, row
from tests.told import NOW, STATS


def seen(**stats: Any) -> Snapshot:
    """An hour of steady growth that ends with the sample, and with *stats*."""
    newest = row(STATS)
    counted = [number for number, name in enumerate(COLUMNS) if name not in {"now", "uptime_s"}]
    rows = []
    for ago in range(720, -1, -1):
        values = newest.tolist()
        values[:2] = [NOW - ago * STEP_S, STATS["uptime_s"] - ago * STEP_S]
        for number in counted:
            values[number] *= 1 - ago / 720
        rows.append(values)
    return Snapshot("http://127.0.0.1:9180", True, 0.0, {**STATS, **stats}, COLUMNS, tuple(rows))


def shown(what: Snapshot, *, height: int | None = None, width: int = 80, encoding: str = "utf-8") -> list[str]:
    """The lines of a frame, as a terminal without colour has them."""
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=written, width=width, height=height or 24, no_color=True, highlight=False)
    console.print(view.frame(what, console, height))
    written.seek(0)
    return written.read().splitlines()


def line(lines: list[str], start: str) -> str:
    """The line that starts so."""
    return next(each for each in lines if each.startswith(start))


def test_the_three_savings_stand_apart() -> None:
    """Each on a line of its own with its own unit: lately, since the start, and as a curve."""
    lines = shown(seen())
    assert line(lines, "calls avoided").split()[2:4] == ["11", "126"]
    assert line(lines, "bytes avoided").split()[2:6] == ["3.8", "MB", "45.6", "MB"]
    assert line(lines, "round trips avoided").split()[3:5] == ["77", "920"]
    assert "█" in line(lines, "calls avoided")


def test_pools_routes_and_errors_are_listed() -> None:
    """The most used pool first, with the time it regains at; routes with what they cost and save; newest errors."""
    lines = shown(seen())
    at = lines.index(line(lines, "quota"))
    assert lines[at + 1].startswith("Account act_1 ads_insights")
    assert "stop   regains in 21 min" in lines[at + 1]
    assert "calm   +1.3 %/min" in lines[at + 2]
    assert line(lines, "/act_{id}/campaigns").split()[1:] == ["900", "800", "100", "40", "MB", "82", "ms"]
    assert any("FAILED 504 late /{id}" in each for each in lines)
    assert any("MISS 400 code 17 throttled" in each for each in lines)


def test_what_is_foreseen_of_a_limit_is_told_as_that() -> None:
    """A stage that has begun before its percentage is used says when that is reached."""
    ahead = {**STATS["usage"][0], "stage": "spare", "foreseen_percent": 80.0, "foreseen_in_s": 120.0}
    assert any("41 %" in each and "80 % in 2 min at this rate" in each for each in shown(seen(usage=[ahead])))


def test_what_is_wrong_stands_on_top() -> None:
    """Below the head and above all numbers, the worst first; and a drain is told in the head."""
    lines = shown(seen(state="draining", open=3))
    assert "draining, 3 inside" in lines[0]
    assert lines[1] == "ads-7f6d:8080  calls https://graph.facebook.com"
    assert lines[2] == "!! Ad account act_1 ads insights: the limit is reached, regains in 21 min"
    assert lines[3] == "!! Graph does not answer in time, last 40 s ago"
    assert lines[4] == ""
    due = [{**STATS["troubles"][0], "for_s": 0.0, "for_named": False}]
    assert shown(seen(troubles=due))[2].endswith("the limit is reached, tried by the next read")
    usage = [{**STATS["usage"][1], "regain_s": 0.0, "regain_named": False}]
    assert any("stop" in each and "tried by the next read" in each for each in shown(seen(usage=usage)))
    retried = [{**STATS["troubles"][0], "for_named": False}]
    assert shown(seen(troubles=retried))[2].endswith("the limit is reached, tried again in 21 min")
    assert shown(seen(troubles=[]))[2] == ""
    gone = shown(replace(seen(), connected=False))
    assert "reconnecting" in gone[0]
    assert re.fullmatch(r"!! No sidecar has answered since \d\d:\d\d:\d\d", gone[2])
    assert gone[3] == ""


@pytest.mark.parametrize("width", [50, 80])
def test_every_mode_has_its_share_whatever_the_width(width: int) -> None:
    """A narrow terminal has fewer of them on a line, and cuts none."""
    text = " ".join(shown(seen(), width=width))
    for mode in STATS["replies"]:
        assert re.search(rf"{mode} +\d+\.\d %", text), mode


def test_errors_of_a_kind_are_one_line() -> None:
    """Which says how many there were; the time is that of the newest."""
    lines = shown(seen(errors=STATS["errors"] * 20))
    assert any(each.endswith("FAILED 504 late /{id} (x20)") for each in lines)
    assert sum("late" in each for each in lines) == 1


@pytest.mark.parametrize("height, width", [(24, 80), (24, 60), (50, 120), (20, 200)])
def test_a_frame_fits_its_terminal(height: int, width: int) -> None:
    """However much there is to list: no line too many, none too long."""
    much = {name: STATS[name] * 30 for name in ("usage", "routes", "errors", "troubles")}
    lines = shown(seen(**much), height=height, width=width)
    assert len(lines) <= height
    assert max(map(len, lines)) <= min(width, 120)
    assert line(lines, "/act_{id}/c")
    assert any("FAILED 504" in each for each in lines)


def test_nothing_yet_is_said() -> None:
    """Before the first read there are sentences in the place of tables."""
    lines = shown(seen(usage=[], routes=[], errors=[], calls=dict.fromkeys(STATS["calls"], 0)))
    assert "routes: no read has come in yet" in lines
    assert "errors: none" in lines
    assert line(lines, "quota: Graph has reported no usage")


def test_ascii_is_enough() -> None:
    """A terminal that has nothing else is shown nothing else."""
    lines = shown(seen(), encoding="ascii")
    assert "######" in line(lines, "Account act_1")
    assert all(each.isascii() for each in lines)


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (90_061, "1 d 1 h")]
)
def test_lengths_of_time_are_told_in_two_parts(seconds: float, text: str) -> None:
    """What is smaller does not matter beside them."""
    assert view.duration(seconds) == text


@pytest.mark.parametrize("number, text", [(0, "0 B"), (999, "999 B"), (45_600_000, "45.6 MB"), (2e9, "2 GB")])
def test_sizes_have_the_unit_that_suits_them(number: float, text: str) -> None:
    """Three digits are enough."""
    assert view.size(number) == text


# --- following

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(name: str, told: Any, identity: str = "") -> bytes:
    """An event as it is sent."""
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {name}\ndata: {json.dumps(told)}\n\n".encode()


def history(*times: float) -> bytes:
    """A whole history."""
    return event("history", {"columns": ["now"], "rows": [[each] for each in times]}, f"run-{len(times)}")


class Server:
    """Answers each connection with the next of its scripts, and keeps what was asked."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.asked: list[str] = []

    def play(self, *scripts: bytes) -> None:
        """Begin to answer."""
        threading.Thread(target=self._play, args=(scripts,), daemon=True).start()

    def _play(self, scripts: tuple[bytes, ...]) -> None:
        for script in scripts:
            connection, _ = self.socket.accept()
            with connection:
                self.asked.append(connection.recv(65_536).decode())
                connection.sendall(script)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is told what to say."""
    made = Server()
    with closing(made.socket):
        yield made


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back at once."""
    monkeypatch.setattr(event_stream, "_PAUSE_S", 0)


@pytest.mark.usefixtures("no_pause")
def test_it_follows_over_a_break(server: Server) -> None:
    """What was seen stays, the id goes along, and rows that came meanwhile are added."""
    server.play(
        OK + history(1, 2) + event("stats", {"n": 1}),
        OK + event("sample", {"rows": [[3]]}, "run-3") + event("stats", {"n": 2}),
    )
    first, gone, again = itertools.islice(follow(server.url, "secret"), 3)
    assert (first.stats, first.connected, first.rows) == ({"n": 1}, True, ([1], [2]))
    assert (gone.stats, gone.connected) == ({"n": 1}, False)
    assert (again.stats, again.connected, again.rows) == ({"n": 2}, True, ([1], [2], [3]))
    assert "Last-Event-ID" not in server.asked[0].title()
    assert "run-2" in server.asked[1]
    assert all("Authorization: Bearer secret" in asked for asked in server.asked)


@pytest.mark.usefixtures("no_pause")
def test_a_new_run_begins_anew(server: Server) -> None:
    """A sidecar that was started again tells its own history, and an error on the way ends nothing."""
    server.play(
        OK + history(1, 2) + event("stats", {"n": 1}),
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        OK + history(9) + event("stats", {"n": 2}),
    )
    *_, newest = itertools.islice(follow(server.url, ""), 4)
    assert newest.rows == ([9],)


@pytest.mark.parametrize(
    "script, reason",
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "answers 404, so it is no admin listener"),
        (b'HTTP/1.1 401 No\r\n\r\n{"error":{"message":"graph-sidecar: the token is needed"}}', "the token is needed"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "is no admin listener"),
        (b"nonsense\r\n\r\n", "no sidecar answers"),
        (b"", "no sidecar answers"),
        (OK, "ended before the first event"),
    ],
    ids=["another server", "token", "page", "no HTTP", "nothing", "no event"],
)
def test_what_is_no_sidecar_is_told(server: Server, script: bytes, reason: str) -> None:
    """The first connection has to work: the address may be wrong."""
    server.play(script)
    with pytest.raises(FollowError, match=reason) as error:
        next(follow(server.url, ""))
    assert str(error.value).startswith(server.url)


# --- the command


def test_one_frame_is_printed_where_there_is_no_terminal(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0; the address may be a URL."""
    what = seen()
    told = {"columns": what.columns, "rows": what.rows}
    server.play(OK + event("history", told, "run-1") + event("stats", copy.deepcopy(STATS)))
    assert cli.main(["top", "--admin", f"{server.url}/"]) == 0
    assert "round trips avoided" in capsys.readouterr().out


def test_the_address_is_that_of_the_settings(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is served on every address is looked for on this machine; a refusal is one line and status 2."""
    server.socket.close()
    port = server.url.rpartition(":")[2]
    monkeypatch.setenv("GRAPH_SIDECAR_ADMIN", f"0.0.0.0:{port}")
    assert cli.main(["top", "--once"]) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(f"graph-sidecar: http://127.0.0.1:{port}: no sidecar answers: Connection refused")


@pytest.mark.parametrize("interval", ["0", "x", "1e9", "nan"])
def test_a_bad_interval_is_refused(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Faster than the sidecar tells is no use."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["top", "--interval", interval])
    assert ended.value.code == 2
    assert "from 1 to 3600" in capsys.readouterr().err


def test_ctrl_c_ends_it_well(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it draws until it is interrupted, then leaves the terminal as it was."""
    what = seen()
    frames: list[Snapshot] = []

    def scripted(url: str, token: str) -> Iterator[Snapshot]:
        for at in (0.0, 0.5, 2.0):
            made = Snapshot(url, True, at, what.stats, what.columns, what.rows)
            frames.append(made)
            yield made
        raise KeyboardInterrupt

    written = io.StringIO()
    from proxy.commands import top

    monkeypatch.setattr(top, "follow", scripted)
    console = Console(file=written, force_terminal=True, width=80, height=24, highlight=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    assert top.run(server.url, "", once=False, interval=1) == 0
    assert len(frames) == 3
    assert written.getvalue().count("calls avoided") == 2  # one came too soon to be drawn
    assert written.getvalue().endswith("\x1b[?25h\x1b[?1049l")


SHARED = {
    "up": True,
    "believed": True,
    "replicas": 3,
    "flights": {"led": 1200, "joined": 40, "taken_over": 0},
    "alone": {"away": 2, "doubt": 5},
}


def test_what_replicas_share_is_a_line_where_they_do() -> None:
    """How many there are, whether they are heard, and whose calls were spared."""
    assert not any(each.startswith("fleet") for each in shown(seen()))
    assert (
        line(shown(seen(shared=SHARED)), "fleet")
        == "fleet: 3 replicas  others heard  flights led 1,200 joined 40 alone 7"
    )
    away = {**SHARED, "up": False, "believed": False}
    assert "others away" in line(shown(seen(shared=away)), "fleet")


@pytest.mark.parametrize("height", [24, 40])
def test_the_line_of_the_fleet_makes_no_frame_higher(height: int) -> None:
    """Whatever there is to show, it fits."""
    assert len(shown(seen(shared=SHARED), height=height)) <= height
