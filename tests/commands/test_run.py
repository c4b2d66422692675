"""`run` and `ca` as a person or a supervisor meets them: their output and their exit status."""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import emulator
from proxy.commands import run
from tests.command_line import said, started

OURS = [sys.executable, "-m", "proxy"]
PYTHON = [sys.executable, "-c"]
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
signal.signal(signal.SIGUSR1, lambda *_: print("one", flush=True))
print("ready", flush=True)
while True: signal.pause()
"""


@pytest.mark.parametrize(
    "command, status, heard",
    [
        ([*PYTHON, "print('hello')"], 0, "hello\n"),
        ([*PYTHON, "import sys; sys.exit(7)"], 7, ""),
        ([*PYTHON, "import os; os.kill(os.getpid(), 9)"], 137, ""),
        (["no-such-command-here"], 127, ""),
        (["/"], 126, ""),
    ],
)
def test_run_ends_as_its_command_does(command: list[str], status: int, heard: str) -> None:
    """Its output is the command's, its status what a shell would give."""
    done = started("run", "--", *command)
    assert (done.returncode, done.stdout) == (status, heard)
    assert done.stderr.endswith("graph-sidecar: no call to Graph came here; ways around it: docs/transparent.md\n")


def test_the_command_alone_is_told(tmp_path: Path) -> None:
    """It finds the proxy and a bundle that is there, and every other variable as it was."""
    tell = "import os, ssl; e = os.environ; ssl.create_default_context(cafile=e['SSL_CERT_FILE'])\n"
    tell += "print(e['HTTPS_PROXY'], e['MINE'], e['NO_PROXY'], e.get('HTTP_PROXY'))"
    done = started("run", "--quiet", "--", *PYTHON, tell, environ={"MINE": "mine", "NO_PROXY": "*"})
    proxy, *rest = done.stdout.split()
    assert proxy.startswith("http://127.0.0.1:")
    assert rest == ["mine", "localhost,127.0.0.1", "None"]
    assert done.stderr == ""


SAVED = {
    "calls": {"asked": 1200, "counted": 20, "uncertain": 0},
    "calls_avoided": {"fresh": 1000, "collapsed": 180, "throttle": 0, "refused": 0},
    "bytes_avoided": 5_000_000,
    "round_trips_avoided": 15,
}


@pytest.mark.parametrize(
    "changed, line",
    [
        ({}, ", 20 counted, 1,180 avoided, 5,000,000 bytes not sent, 15 round trips not made"),
        (
            {
                "calls": {"asked": 1200, "counted": 0, "uncertain": 1},
                "calls_avoided": {"fresh": 0, "throttle": 4, "refused": 3},
                "bytes_avoided": 0,
                "round_trips_avoided": 0,
            },
            ", 1 perhaps counted, 7 answered here while a limit was reached",
        ),
    ],
)
def test_what_was_saved_is_told_in_metas_units(changed: dict[str, object], line: str) -> None:
    """Three numbers that are not added up; a refusal of ours is nothing saved."""
    assert run.summary({**SAVED, **changed}) == f"calls to Graph: 1,200 asked for{line}"


async def test_the_last_line_tells_what_was_saved() -> None:
    """On standard error, for standard output is the command's; --quiet leaves it out."""
    read = "import os, urllib.request as r; url = os.environ['HTTPS_PROXY'] + '/v25.0/1?access_token=T'\n"
    read += "for _ in range(2): print(r.build_opener(r.ProxyHandler({})).open(url).read())"
    async with emulator.running(emulator.Config()) as graph:
        ours = ("--upstream", graph.url, "--set", "cache.fresh_s=60", "--", *PYTHON, read)
        told, quiet = [await asyncio.to_thread(started, "run", *flag, *ours) for flag in ([], ["--quiet"])]
    assert told.stderr == "graph-sidecar: calls to Graph: 2 asked for, 1 counted, 1 avoided\n"
    assert (quiet.stderr, quiet.stdout) == ("", told.stdout)


DISTRUSTFUL = """
import os, socket, ssl, urllib.parse
at = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
for _ in range(3):
    with socket.create_connection((at.hostname, at.port)) as line:
        line.sendall(b"CONNECT graph.facebook.com:443 HTTP/1.1\\r\\nHost: graph.facebook.com:443\\r\\n\\r\\n")
        line.recv(1000)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(line, server_hostname="graph.facebook.com")
        except ssl.SSLError:
            pass
"""


def test_a_command_that_does_not_trust_is_told_of() -> None:
    """Once, on standard error, with the way out: it tries again and again, and may not say why."""
    done = started("run", "--", *PYTHON, DISTRUSTFUL)
    assert done.returncode == 0
    assert done.stderr.count("does not trust the sidecar's authority (alert unknown_ca)") == 1
    assert "SSL_CERT_FILE" in done.stderr


def test_a_file_for_serve_does_not_open_its_ports(tmp_path: Path) -> None:
    """Beside a sidecar that serves, with the same settings, `run` takes ports that are free; a flag is meant."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "f.toml").write_text(f'listen = "{at}"\n[intercept]\nlisten = "{at.replace("0.1", "0.2")}"\n')
        assert started("run", "--config", str(tmp_path / "f.toml"), "--", *PYTHON, "").returncode == 0
        done = started("run", "--listen", at, "--", *PYTHON, "")
    assert done.returncode == 2
    assert "listen" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "--"], ["run", "echo"], ["run", "--set", "nonsense=1", "--", "x"]]
)
def test_what_is_no_run_is_refused(arguments: list[str]) -> None:
    """With status 2, and nothing is started."""
    done = said(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("graph-sidecar: ")


def test_signals_are_passed_on() -> None:
    """What a supervisor tells us is told to the command, which decides; its end is ours."""
    with subprocess.Popen(
        [*OURS, "run", "--", *PYTHON, STUBBORN], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "one\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 9


def test_an_authority_is_made_once_shown_and_told() -> None:
    """Init makes it, once; show and bundle print it; env names a bundle that OpenSSL takes."""
    first, again = said("ca", "init"), said("ca", "init")
    assert first.returncode == again.returncode == 0
    assert first.stdout == again.stdout
    assert "graph.facebook.com" in first.stdout
    shown = said("ca", "show").stdout
    assert shown.startswith(first.stdout)
    assert "PRIVATE" not in shown
    assert shown.removeprefix(first.stdout).strip() in said("ca", "bundle").stdout

    lines = [shlex.split(line)[1].partition("=") for line in said("ca", "env").stdout.splitlines()]
    told = {name: value for name, _, value in lines}
    path = Path(told["SSL_CERT_FILE"])
    assert {told[name] for name in ("REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")} == {str(path)}
    assert ssl.create_default_context(cafile=path).get_ca_certs()
    assert {*path.parent.rglob("*.*")} > {path, path.parent / "truststore.p12", path.parent / "python/sitecustomize.py"}
    assert "https.proxyHost" not in told["JAVA_TOOL_OPTIONS"]
    assert said("ca", "env", environ=told).stdout == said("ca", "env").stdout
    key = path.with_name("authority.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_authority_for_fewer_hosts_is_told_and_replaced() -> None:
    """Hosts that were added are in no authority of before; --force makes one that clients have to be told of."""
    said("ca", "init")
    more = ("--set", "upstream.hosts=graph.more.test")
    for refused in (said("ca", "init", *more), said("run", *more, "--", "true")):
        assert refused.returncode == 2
        assert "was not made for graph.more.test" in refused.stderr
        assert "--force" in refused.stderr
    assert "graph.more.test" in said("ca", "init", "--force", *more).stdout
    assert started("run", *more, "--", "true").returncode == 0


@pytest.mark.parametrize("action", ["show", "bundle", "env"])
def test_without_an_authority_the_way_out_is_told(action: str) -> None:
    """Status 2, and what makes one."""
    done = said("ca", action)
    assert done.returncode == 2
    assert "ca init" in done.stderr
