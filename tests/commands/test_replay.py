"""`graph-sidecar replay`, as it is typed."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import subprocess
import sys
import termios
import time
from array import array
from pathlib import Path

import pytest

from proxy.cli import main

READ = {
    "level": "info", "logger": "graph_sidecar.reply", "mode": "MISS", "status": 200, "method": "GET", "host": "graph",
    "version": "v25.0", "route": "/{id}", "path": "/1", "app": "fp", "total_ms": 80.0, "key": "k", "body": "b",
    "rest": "r", "sent": 1,
}  # fmt: skip
OTHER = json.dumps({"logger": "graph_sidecar", "message": "serving"})
MINUTE = ("--set", "cache.fresh_s=60")


def read(second: int, **told: object) -> str:
    """A line about a read that was answered at this second."""
    return json.dumps({"time": f"2026-01-01T00:00:{second}.000+00:00", **READ, **told})


def replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str], *lines: str, status: int = 0) -> tuple[str, str]:
    """What a replay of *lines* prints, and what it complains of."""
    log = tmp_path / "log"
    log.write_text("\n".join(lines) + "\n")
    assert main(["replay", str(log), *MINUTE]) == status
    told = capsys.readouterr()
    return told.out, told.err


def row(text: str, name: str) -> list[str]:
    """The cells of the row called *name*."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return line.removeprefix(name).split()


def test_a_log_is_replayed_by_other_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two reads ten seconds apart are one call by a rule of a minute: as a whole, and by route."""
    out, err = replayed(tmp_path, capsys, OTHER, read(10), "", read(20))
    assert row(out, "calls counted") == ["2", "1", "-50%"]
    assert row(out, "calls asked") == ["2", "2"]
    assert row(out, "avoided: fresh") == ["0", "1", "new"]
    assert row(out, "/{id}") == ["2", "2", "1", "-50%", "0", "10", "s"]
    assert err == ""


def test_the_routes_that_change_most_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user looks there first."""
    few = [read(at, route="/few", path="/2") for at in (10, 20)]
    many = [read(at, route="/many", path="/3") for at in range(10, 20)]
    none = [read(at, route="/none", path="/4", fields="async_status") for at in range(10, 30)]
    out, _ = replayed(tmp_path, capsys, *few, *many, *none)
    assert [line.split()[0] for line in out.splitlines() if line.startswith("/")] == ["/many", "/few", "/none"]


def test_json_has_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts."""
    log = tmp_path / "log"
    log.write_text(f"{read(10)}\n{read(20)}\n")
    assert main(["replay", str(log), "--json", *MINUTE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calls"]["counted"] == {"then": 2, "now": 1}
    assert (told["reads"], told["bad_lines"], told["outdated"], told["oldest_s"]) == (2, [], 0, 10)
    assert told["routes"][0]["route"] == "/{id}"


def test_lines_that_cannot_be_read_are_told_by_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are passed over; the exit status says that there were some."""
    bad = ["Traceback (most recent call last):", read(10)[:90], read(10, mode="NONE"), read(10, total_ms=-1)]
    out, err = replayed(tmp_path, capsys, read(10), *bad, read(20), status=1)
    assert row(out, "calls asked") == ["2", "2"]
    assert [line.split(":")[1] for line in err.splitlines()] == ["2", "3", "4", "5"]
    assert all(str(tmp_path / "log") in line for line in err.splitlines())


def test_of_many_such_lines_the_first_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And how many there are."""
    _, err = replayed(tmp_path, capsys, read(10), *["nonsense"] * 100, status=1)
    assert len(err.splitlines()) == 21
    assert "80 more" in err


def test_what_a_runtime_writes_before_a_line_does_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Containers' logs are often prefixed."""
    out, _ = replayed(tmp_path, capsys, f"2026-01-01T00:00:10Z stderr F {read(10)}", f"sidecar-1  | {read(20)}")
    assert row(out, "calls asked") == ["2", "2"]


def test_logs_of_older_versions_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be played from them is said."""
    out, _ = replayed(tmp_path, capsys, *(read(at, rest="", sent=None) for at in (10, 20)))
    assert "2 reads have lines of an older version" in out


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read(tmp_path: Path, *, packed: bool) -> None:
    """As `kubectl logs` or `zcat` writes it: in pieces, of which the first may be a single byte."""
    text = f"{read(10)}\n{read(20)}\n".encode()
    whole = gzip.compress(text) if packed else text
    log = tmp_path / "log"
    log.write_bytes(whole)
    command = [sys.executable, "-m", "proxy", "replay", "--json", *MINUTE]
    by_name = json.loads(subprocess.run([*command, str(log)], check=True, capture_output=True).stdout)
    with subprocess.Popen([*command, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        assert reading.stdin is not None
        os.write(reading.stdin.fileno(), whole[:1])
        while _unread(reading.stdin.fileno()):
            time.sleep(0.01)  # until the first byte is taken alone
        out, _ = reading.communicate(whole[1:], timeout=60)
    assert json.loads(out) == {**by_name, "file": "standard input"}


def _unread(pipe: int) -> int:
    """How many bytes wait in *pipe*."""
    waiting = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0]


def test_a_packed_log_and_standard_input_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As logs are kept, and as `kubectl logs` gives them."""
    text = f"{read(10)}\n{read(20)}\n".encode()
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(text))
    assert main(["replay", str(packed), *MINUTE]) == 0
    from_file = capsys.readouterr().out
    assert row(from_file, "calls asked") == ["2", "2"]
    with packed.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["replay", "-", *MINUTE]) == 0
    assert capsys.readouterr().out == from_file


@pytest.mark.parametrize("text, told", [(None, "cannot be read"), ("\n", "holds no line about a read")])
def test_a_log_of_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, told: str
) -> None:
    """Without a file, or without reads in it, one line says so, with exit status 2."""
    log = tmp_path / "log"
    if text is not None:
        log.write_text(text)
    assert main(["replay", str(log)]) == 2
    assert told in capsys.readouterr().err


def test_a_log_that_ends_in_the_middle_of_its_packing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line."""
    log = tmp_path / "log.gz"
    log.write_bytes(gzip.compress(read(10).encode() * 100)[:-20])
    assert main(["replay", str(log)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_sampled_log_is_told_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its sums are of the lines that were written, so the reader has to know that others were not."""
    out, _ = replayed(tmp_path, capsys, read(10, sample=0.1), read(20, sample=0.25), read(30, status=400, code=100))
    assert "The log is a sample: of good replies down to 0.1 of the lines were written." in " ".join(out.split())
    out, _ = replayed(tmp_path, capsys, read(10), read(20))
    assert "sample" not in out
