"""The unit under a real systemd: `make long` runs this where systemd-nspawn works and a small Debian can be had."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONG, ROOT
from tests.engines.units import Machine, booted, made_tree
from tests.engines.waiting import until

pytestmark = [
    pytest.mark.skipif(not LONG, reason="takes minutes: make long"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(900),
]

UNIT = ROOT / "config" / "systemd" / "graph-sidecar.service"
GRAPH = """[Service]
ExecStart=/opt/graph-sidecar/bin/graph-sidecar emulate
DynamicUser=yes
"""
AFTER = """[Unit]
Requires=graph-sidecar.service
After=graph-sidecar.service
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9180/readyz').status)"
"""
SETTINGS = '[upstream]\norigin = "http://127.0.0.1:8081"\n'


@pytest.fixture(scope="module")
def tree() -> Path:
    """The machine's files."""
    if not shutil.which("systemd-nspawn"):
        pytest.skip("no systemd-nspawn here (Debian: systemd-container)")
    return made_tree(ROOT / ".venvs" / "trees")


@pytest.fixture
def machine(tree: Path) -> Iterator[Machine]:
    """A machine with the unit, the offline Graph, and a unit that needs ours; none of them started but Graph."""
    units = tree / "etc" / "systemd" / "system"
    shutil.copy(UNIT, units)
    (units / "graph.service").write_text(GRAPH)
    (units / "after.service").write_text(AFTER)
    (tree / "etc" / "graph-sidecar.toml").write_text(SETTINGS)
    for folder in ("var/cache", "var/lib"):
        shutil.rmtree(tree / folder / "private" / "graph-sidecar", ignore_errors=True)
    shutil.rmtree(tree / "var" / "log" / "journal", ignore_errors=True)
    with booted(tree) as found:
        found.run("systemctl", "start", "graph")
        yield found


def _stats(machine: Machine) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(machine.shell(_get("http://127.0.0.1:9180/stats")))
    return told


def _get(url: str) -> str:
    return f"python3 -c \"import urllib.request as u; r = u.urlopen('{url}'); print(r.read().decode())\""


def _status_of(machine: Machine, path: str) -> str:
    """`Cache-Status` of a read."""
    look = f"r = u.urlopen('http://127.0.0.1:8080{path}?access_token=ann-0123456789'); print(r.headers['Cache-Status'])"
    return machine.shell(f'python3 -c "import urllib.request as u; {look}"').strip()


def test_it_starts_ready_and_keeps_on_disk(machine: Machine) -> None:
    """A unit ordered after ours finds it ready; entries lie on disk and outlive a restart; processes are measured."""
    machine.run("systemctl", "start", "after")
    assert machine.show("ActiveState") == "active"
    assert machine.show("StatusText").startswith("serving http://127.0.0.1:8081 on http://127.0.0.1:8080")
    assert "200" in machine.journal("after")
    assert "fwd=uri-miss; stored" in _status_of(machine, "/v25.0/me")
    until(lambda: _stats(machine)["store"]["disk_entries"] == 1, "the entry on disk")
    assert "rests" not in machine.journal()
    assert "process_cpu_seconds_total" in machine.shell(_get("http://127.0.0.1:9180/metrics"))
    machine.run("systemctl", "restart", "graph-sidecar")
    assert "fwd=stale; fwd-status=304" in _status_of(machine, "/v25.0/me")
    machine.run("systemctl", "stop", "graph-sidecar")
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    for place in ("/var/cache/private/graph-sidecar", "/var/lib/private/graph-sidecar"):
        assert machine.shell(f"find {place} -perm /077").strip() == "", "nobody else may read a thing there"


def test_bad_settings_end_it_once(machine: Machine) -> None:
    """It does not start, says why, and is not started again."""
    (machine.tree / "etc" / "graph-sidecar.toml").write_text("drain_s = 'soon'\n")
    assert machine.run("systemctl", "start", "graph-sidecar", check=False).returncode
    assert (machine.show("ExecMainStatus"), machine.show("NRestarts"), machine.show("ActiveState")) == (
        "2",
        "0",
        "failed",
    )
    assert "drain_s" in machine.journal()


def test_a_crash_is_followed_by_a_start(machine: Machine) -> None:
    """What a kill ended is started again, and finds what it had held."""
    machine.run("systemctl", "start", "graph-sidecar")
    _status_of(machine, "/v25.0/me")
    until(lambda: _stats(machine)["store"]["disk_entries"] == 1, "the entry on disk")
    machine.run("systemctl", "kill", "--signal", "KILL", "graph-sidecar")
    until(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active", "the next start")
    assert "fwd=stale; fwd-status=304" in _status_of(machine, "/v25.0/me")


def test_reload(machine: Machine) -> None:
    """Good settings hold at once; bad ones make `systemctl reload` fail, with the reason, and change nothing."""
    file = machine.tree / "etc" / "graph-sidecar.toml"
    machine.run("systemctl", "start", "graph-sidecar")
    file.write_text(SETTINGS + "[cache]\nfresh_s = 60\n")
    machine.run("systemctl", "reload", "graph-sidecar")
    _status_of(machine, "/v25.0/me")
    assert "hit" in _status_of(machine, "/v25.0/me")
    file.write_text(SETTINGS + "[cache]\nfresh_s = -1\n")
    assert machine.run("systemctl", "reload", "graph-sidecar", check=False).returncode
    assert "cache.fresh_s = -1" in machine.journal()
    assert machine.show("ActiveState") == "active"
    assert "hit" in _status_of(machine, "/v25.0/me")


def test_the_authority_is_made_without_a_home(machine: Machine) -> None:
    """CONNECT to Graph works, and its authority lies in the state folder."""
    machine.run("systemctl", "start", "graph-sidecar")
    ask = (
        "import http.client, ssl; "
        "c = http.client.HTTPSConnection('127.0.0.1', 8080, context=ssl._create_unverified_context()); "
        "c.set_tunnel('graph.facebook.com', 443); c.request('GET', '/v25.0/me?access_token=ann-0123456789'); "
        "print(c.getresponse().status)"
    )
    assert machine.shell(f'python3 -c "{ask}"').strip() == "200"
    assert machine.shell("ls /var/lib/private/graph-sidecar/ca").strip()


def test_a_token_is_read_by_a_group(machine: Machine) -> None:
    """A file of root's that a group may read serves the sidecar and its reload; who shows no token is told nothing."""
    machine.shell("getent group graph-tokens || groupadd --system graph-tokens")
    machine.shell("cd /etc; echo correct-horse-battery > token; chgrp graph-tokens token; chmod 640 token")
    override = machine.tree / "etc" / "systemd" / "system" / "graph-sidecar.service.d"
    override.mkdir(exist_ok=True)
    (override / "token.conf").write_text("[Service]\nSupplementaryGroups=graph-tokens\n")
    (machine.tree / "etc" / "graph-sidecar.toml").write_text(f'admin_token_file = "/etc/token"\n{SETTINGS}')
    try:
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "graph-sidecar")
        assert machine.run("sh", "-c", _get("http://127.0.0.1:9180/stats"), check=False).returncode
        machine.run("systemctl", "reload", "graph-sidecar")
        assert "reloaded: nothing is new" in machine.journal()
    finally:
        shutil.rmtree(override)
