"""`graph-sidecar replay`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli import main

READ = {
    "level": "info", "logger": "graph_sidecar.reply", "mode": "MISS", "status": 200, "method": "GET", "host": "graph",
    "version": "v25.0", "route": "/{id}", "path": "/1", "app": "fp", "total_ms": 80.0, "key": "k", "body": "b",
}  # fmt: skip


def test_a_log_is_replayed_by_other_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two reads ten seconds apart are one call by a rule of a minute; other lines, and half a line, do no harm."""
    log = tmp_path / "log"
    reads = [json.dumps({"time": f"2026-01-01T00:00:{at}.000+00:00", **READ}) for at in (10, 20)]
    log.write_text("\n".join(["not JSON", json.dumps({"logger": "graph_sidecar"}), *reads, reads[0][:90]]))
    assert main(["replay", str(log), "--set", "cache.fresh_s=60"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:5] == ["/{id}", "2", "2", "1", "1"]


@pytest.mark.parametrize("text, told", [(None, "cannot be read"), ("nothing\n", "holds no line about a read")])
def test_a_log_of_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, told: str
) -> None:
    """Without a file, or without reads in it, one line says so, with exit status 2."""
    log = tmp_path / "log"
    if text is not None:
        log.write_text(text)
    assert main(["replay", str(log)]) == 2
    assert told in capsys.readouterr().err
