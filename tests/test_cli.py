"""The command line as a person or a supervisor meets it: output, one line per problem, exit status."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from proxy import cli
from proxy.app.listen import StartError
from proxy.cli.offline_commands import fields
from proxy.core.cache.key import Keys
from proxy.core.model import Credential
from proxy.emulator import Config
from proxy.settings import Address, Settings, names
from proxy.shell.store import load_or_make_key
from tests.command_line import said, started

FREE = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that an application in place of ours was started with."""
    seen: list[Settings] = []

    def serve(settings: Settings, reread: Callable[[], Settings], _tell: object) -> int:
        seen.append(settings)
        if settings.log.level == "error":
            raise StartError("the store is broken")
        return 7

    process = ModuleType("proxy.app.process")
    process.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proxy.app.process", process)
    monkeypatch.setattr("proxy.app.process", process, raising=False)
    return seen


def test_serve_starts_with_what_was_asked(served: list[Settings]) -> None:
    """Flags reach the application, and its exit status is the command's."""
    status = cli.main(["serve", *FREE, "--upstream", "http://127.0.0.1:1", "--set", "batch.slots=7"])
    assert status == 7
    assert served[0].upstream.origin == "http://127.0.0.1:1"
    assert served[0].batch.slots == 7
    assert served[0].listen == Address("127.0.0.1", 0)


def test_serve_reads_environment_and_file(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment and the file say reaches the application too."""
    file = tmp_path / "settings.toml"
    file.write_text("[batch]\nqueue = 9\n")
    monkeypatch.setenv("GRAPH_SIDECAR_BATCH__SLOTS", "8")
    assert cli.main(["serve", *FREE, "--config", str(file)]) == 7
    assert (served[0].batch.slots, served[0].batch.queue) == (8, 9)


def test_a_start_that_fails_is_one_line(served: list[Settings], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the application cannot start with is said plainly, with status 2."""
    assert cli.main(["serve", *FREE, "--set", "log.level=error"]) == 2
    assert capsys.readouterr().err == "graph-sidecar: the store is broken\n"


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_taken_port_is_one_line(command: str, served: list[Settings], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started where it could not listen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        assert cli.main([command, *FREE, "--listen", where]) == 2
    assert capsys.readouterr().err == f"graph-sidecar: listen = {where}: cannot listen there: Address already in use\n"
    assert served == []


def test_check_prints_every_setting_and_its_origin() -> None:
    """What is in force can be read, and pasted into the file."""
    rules = 'rules=[{path="/me", fresh_s=5}]'
    done = said("check", *FREE, "--set", "batch.slots=7", "--set", rules, environ={"GRAPH_SIDECAR_LOG__LEVEL": "debug"})
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split(" = ")[0] for line in lines[:-1]] == list(names())
    assert lines[-1] == "nothing is wrong"
    told = [" ".join(line.split()) for line in lines]
    assert "batch.slots = 7 # --set" in told
    assert 'rules = [{ path = "/me", fresh_s = 5 }] # --set' in told
    assert 'log.level = "debug" # GRAPH_SIDECAR_LOG__LEVEL' in told
    assert "paging.rewrite = true # default" in told


@pytest.mark.parametrize("command", ["serve", "check"])
def test_bad_settings_are_told_together_with_status_2(command: str, tmp_path: Path) -> None:
    """One line for each mistake, and nothing else."""
    file = tmp_path / "settings.toml"
    file.write_text("[batch]\nslots = 51\n")
    done = said(
        command, "--config", str(file), "--set", "batch.windw_ms=5", environ={"GRAPH_SIDECAR_CACHE__SEALED": "perhaps"}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "graph-sidecar: batch.windw_ms (--set): no such setting; did you mean batch.window_ms?",
        f"graph-sidecar: batch.slots = 51 ({file}): must be a whole number from 1 to 50",
        'graph-sidecar: cache.sealed = "perhaps" (GRAPH_SIDECAR_CACHE__SEALED): must be true or false',
    ]


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "the following arguments are required: COMMAND"),
        (["srve"], "invalid choice: 'srve'"),
        (["serve", "--listn", "h:1"], "no such argument"),
        (["serve", "--config"], "expected one argument"),
        (["check", "--liste", "h:1"], "no such argument"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(arguments: list[str], told: str) -> None:
    """The line says what is wrong and where the help is."""
    done = said(*arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert told in line
    assert "--help" in line


def test_a_token_on_the_command_line_is_not_repeated() -> None:
    """A flag that does not exist does not make its value public."""
    token = "EAABsbCS1iHgBAKZCexample0123456789"
    done = said("serve", f"--access-token={token}", token)
    assert done.returncode == 2
    assert token not in done.stderr + done.stdout


def test_the_version_is_told() -> None:
    """Both doors tell the same version."""
    console = Path(sys.executable).parent / "graph-sidecar"
    by_name = subprocess.run([console, "--version"], capture_output=True, text=True, check=True)
    assert by_name.stdout == started("--version").stdout
    assert by_name.stdout.startswith("graph-sidecar ")


def test_a_checkout_that_is_not_installed_runs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a version to tell, the command still works, even with nowhere to print to."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == "graph-sidecar not installed\n"
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["check", *FREE]) == 0


def test_help_lists_the_commands() -> None:
    """Whoever knows nothing learns what there is."""
    done = said("--help")
    assert done.returncode == 0
    for command in ("serve", "demo", "emulate", "check"):
        assert f"    {command} " in done.stdout


@pytest.mark.parametrize("command", ["serve", "check"])
def test_help_lists_every_setting_and_default(command: str) -> None:
    """The reference is at hand where there is no web."""
    done = said(command, "--help")
    assert done.returncode == 0
    for name in names():
        assert f"  {name} = " in done.stdout
    assert "(default: 127.0.0.1:8080)" in " ".join(done.stdout.split())


def test_the_demo_brings_its_own_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says what it takes, and its exit status is the command's."""
    demo = ModuleType("proxy.commands.demo")
    demo.add_arguments = lambda parser: parser.add_argument("--callers", type=int)  # type: ignore[attr-defined]
    demo.run = lambda options: options.callers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proxy.commands.demo", demo)
    monkeypatch.setattr("proxy.commands.demo", demo, raising=False)
    assert cli.main(["demo", "--callers", "3"]) == 3


def test_the_offline_graph_tells_where_it_is() -> None:
    """With port 0 it takes a free port, prints its address, answers there, and ends on Ctrl-C without a traceback."""
    command = [sys.executable, "-m", "proxy", "emulate", "--listen", "127.0.0.1:0", "--set", "missing_ids=1,2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout
        assert emulator.stderr
        url = emulator.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/v25.0/4?access_token=T|t", timeout=60) as reply:  # noqa: S310 - our own address
            assert json.load(reply)["id"] == "4"
        emulator.send_signal(signal.SIGINT)
        assert emulator.wait(60) == 130
        assert emulator.stderr.read() == ""


def test_bad_fields_of_the_offline_graph_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake has its line, and nothing is started."""
    status = cli.main(["emulate", "--latency-ms", "slow", "--set", "sed=1", "--set", "set_cookie=perhaps"])
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ['latency_ms = "slow"', "sed (--set)", 'set_cookie = "perhaps"']
    assert "did you mean seed?" in lines[1]


@pytest.mark.parametrize("argument", ["--listen=8081", "--set=seed"])
def test_a_slip_at_the_offline_graph_is_one_line(argument: str) -> None:
    """An address or a field that is only half there is told so."""
    done = said("emulate", argument)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "must be" in line


@pytest.mark.parametrize(
    "text, items",
    [
        ("a,b", ("a", "b")),
        ('["a", "b"]', ("a", "b")),
        ('{"kind": "x", "n": 1}', ('{"kind": "x", "n": 1}',)),
        ('[{"kind": "x"}]', ('{"kind": "x"}',)),
        ("[a", ("[a",)),
        ("", ()),
    ],
)
def test_lists_of_the_offline_graph(text: str, items: tuple[str, ...]) -> None:
    """Words between commas, JSON lists and single JSON objects are all lists."""
    assert fields(Config, [("faults", text)]) == {"faults": items}


def test_a_reader_that_leaves_is_no_error() -> None:
    """`graph-sidecar check | head -1` ends quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "check", *FREE], stdout=gone, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 141
    assert done.stderr == ""


def test_an_interrupt_is_no_traceback(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command with the status that shells expect."""

    def interrupt(_settings: Settings, _reread: object, _tell: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.app.process.serve", interrupt)
    assert cli.main(["serve", *FREE]) == 130


def test_the_fingerprint_is_that_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the secret in `cache.key_file`, which is not made for it; no word of the token is printed."""
    key = tmp_path / "key"
    command = ["fingerprint", "--set", f"cache.key_file={key}"]
    monkeypatch.setattr("sys.stdin", io.StringIO("EAAB-token\n"))
    assert cli.main(command) == 2
    assert "cache.key_file: is missing" in capsys.readouterr().err
    assert not key.exists()
    master = load_or_make_key(key)
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{Keys(master).fingerprint(Credential('EAAB-token')).hex()[:12]}\n"


def test_one_round_tells_all_that_is_wrong_and_all_that_is_odd(tmp_path: Path) -> None:
    """Bad values, values that do not fit each other, the machine and oddities are told by one `check`."""
    file = tmp_path / "settings.toml"
    file.write_text(
        '[cache]\nfresh_s = 60\nstretch_s = 30\nkey_file = "ephemeral"\n[batch]\nslots = 51\n'
        '[shared]\nurl = "redis://127.0.0.1"\ntimeout_ms = 0\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        done = said("check", "--config", str(file), "--listen", "127.0.0.1:0", "--admin", taken)
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["warning"]
    assert "cache.stretch_s = 30" in done.stdout
    told = done.stderr.splitlines()
    assert told[0] == f"graph-sidecar: batch.slots = 51 ({file}): must be a whole number from 1 to 50"
    assert told[1] == f"graph-sidecar: shared.timeout_ms = 0 ({file}): must be a whole number from 1 to 10000"
    assert told[2].startswith("graph-sidecar: shared = ")
    assert told[2].endswith(f"({file}): url needs a cache.key_file that all replicas have, not an ephemeral one")
    assert told[3:] == [f"graph-sidecar: admin = {taken}: cannot listen there: Address already in use"]


def test_a_default_in_place_of_a_bad_value_is_not_found_wrong() -> None:
    """The port of a bad `listen` is not tried, and stages are not compared with a default that nobody set."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # some other program may have the default port
            server.bind(("127.0.0.1", 8080))
            server.listen()
        done = said(
            *("check", "--listen", "x", "--admin", "127.0.0.1:0", "--set", "intercept.listen=127.0.0.1:8081"),
            *("--set", "quota.watch_pct=20", "--set", "quota.spare_pct=x", "--set", "quota.stop_pct=50"),
        )
    assert done.stdout == ""
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["listen", "quota.spare_pct"]


def test_strict_makes_a_warning_count() -> None:
    """A script may refuse what is odd; without the flag the status says whether `serve` would start."""
    odd = (*FREE, "--set", "upstream.origin=http://graph.facebook.com")
    assert said("check", *odd).returncode == 0
    done = said("check", "--strict", *odd)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("warning: upstream.origin = ")
    assert said("check", "--strict", *FREE).returncode == 0
