"""The image's recipe: linted, and its steps done here as far as a machine without a container engine can."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import LONG, ROOT

DOCKERFILE = ROOT / "Dockerfile"
"""Variables that say how this machine reaches a registry."""


@dataclass
class Stage:
    """What one FROM of the recipe begins."""

    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What stands behind *word*, each time."""
        return [rest for step, rest in self.steps if step == word]

    def one(self, word: str) -> str:
        """What stands behind *word*, which stands there once."""
        (rest,) = self.all(word)
        return rest

    @property
    def environ(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in rest.split())


def stages() -> list[Stage]:
    """The recipe, read as Docker does: comments out, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append(Stage())
        elif word and found:
            found[-1].steps.append((word, " ".join(rest.split())))
    return found


BUILD, RUNS = stages()


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles has nothing to say."""
    lint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([lint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_runs_needs_no_shell_and_no_root() -> None:
    """Every command of the image is a list of words, its user a number, its end a signal that drains."""
    for words in (RUNS.one("ENTRYPOINT"), RUNS.one("CMD"), RUNS.one("HEALTHCHECK").partition(" CMD ")[2]):
        assert all(isinstance(word, str) for word in json.loads(words))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", RUNS.one("USER"))
    assert RUNS.one("STOPSIGNAL") == "SIGTERM"
    order = [word for word, _ in RUNS.steps]
    assert order.index("USER") > len(order) - 1 - order[::-1].index("RUN")


def test_what_is_installed_is_pinned() -> None:
    """Pip takes nothing from a registry without a hash."""
    for command in (part.strip() for rest in BUILD.all("RUN") for part in rest.split("&&")):
        if re.search(r"\bpip (--python \S+ )?install\b", command):
            assert "--require-hashes" in command or {"--no-deps", "--no-build-isolation"} <= set(command.split())


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    """What the recipe copies is let through by .dockerignore, which lets nothing else through."""
    steps = [*BUILD.all("COPY"), *(rest for rest in RUNS.all("COPY") if not rest.startswith("--from"))]
    copied = {word for rest in steps for word in rest.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert all(any(Path(name).is_relative_to(each) for each in sent) for name in copied)
    assert all(any(Path(name).is_relative_to(each) for name in copied) for each in sent)
    assert all((ROOT / name).exists() for name in copied)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    """What stands in the recipe, and what stands for it on this machine."""
    return {
        "/opt/": f"{tmp_path}/opt/",
        "/var/": f"{tmp_path}/var/",
        "0.0.0.0:8080": f"127.0.0.1:{_free_port()}",
        "0.0.0.0:9180": f"127.0.0.1:{_free_port()}",
        "10001:10001": f"{os.getuid()}:{os.getgid()}",
    }


def _moved(text: str, here: dict[str, str]) -> str:
    for there, ours in here.items():
        text = text.replace(there, ours)
    return text


def _lent(text: str) -> str:
    """The packages of a pin file are lent by the environment of the tests, and no others; `make long` fetches them."""
    if LONG:
        return text
    lend = f"{sys.executable} {ROOT / 'tests' / 'journeys' / 'lending.py'}"
    where = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    into = rf"{lend} \2 --target $(\1 -c '{where}')"
    text = re.sub(r"python -m pip --python (\S+) install .*?--requirement (\S+)", into, text)
    return re.sub(r"python -m pip install --require-hashes --requirement (\S+)", rf"{lend} \1", text)


def _is_for_here(step: str) -> bool:
    """Whether a step may be done on this machine: none that installs packages of the system, or compiles its library.

    What is lent is not compiled either: it lies in the environment of the tests.
    """
    return "apt-get" not in step and "stdlib" not in step and (LONG or "compileall" not in step)


def test_the_steps_work(tmp_path: Path, here: dict[str, str]) -> None:
    """From nothing but what is copied: the steps build it, what they built starts, says that it is well, and drains."""
    source = tmp_path / "src"
    source.mkdir()
    base = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    # Packages that this machine has fetched before need not be fetched again.
    base |= {
        name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_", "HTTPS_", "HTTP_", "NO_P"))
    }
    base["PIP_NO_COMPILE"] = "1"  # it is started once only
    base["PIP_CACHE_DIR"] = subprocess.check_output([sys.executable, "-m", "pip", "cache", "dir"], text=True).strip()
    environ = dict(base)
    for word, rest in BUILD.steps:
        if word == "ENV":
            given = {name: _moved(value, here).replace("$PATH", environ["PATH"]) for name, value in _pairs(rest)}
            environ |= {name: value for name, value in given.items() if name != "PIP_NO_CACHE_DIR"}
        elif word == "COPY":
            *names, where = rest.split()
            (source / where).mkdir(parents=True, exist_ok=True) if where.endswith("/") else None
            for name in names:
                subprocess.run(["cp", "-r", ROOT / name, source / where], check=True)
        elif word == "RUN" and _is_for_here(rest):
            step = _lent(_moved(rest, here))
            subprocess.run(["sh", "-ec", step], cwd=source, env=environ, check=True, capture_output=True)
    for rest in filter(_is_for_here, RUNS.all("RUN")):
        subprocess.run(["sh", "-ec", _moved(rest, here)], check=True)
    for name, where in (rest.split() for rest in RUNS.all("COPY") if not rest.startswith("--from")):
        Path(_moved(where, here)).write_text(_moved((ROOT / name).read_text(), here))
    environ = {"HOME": "/nonexistent"} | {name: _moved(value, here) for name, value in RUNS.environ.items()}
    environ["PATH"] = environ["PATH"].replace("$PATH", base["PATH"])
    _starts_and_ends(environ)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        name, _, value = pair.partition("=")
        yield name, value


def _starts_and_ends(environ: dict[str, str]) -> None:
    program = Path(environ["PATH"].split(":")[0], "python")
    entry, command = json.loads(RUNS.one("ENTRYPOINT")), json.loads(RUNS.one("CMD"))
    healthy = json.loads(RUNS.one("HEALTHCHECK").partition(" CMD ")[2])
    process = subprocess.Popen([program, *entry[1:], *command], env=environ, cwd="/", stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("serving" in line for line in process.stderr)
        subprocess.run([program, "-m", "proxy", "wait", "--timeout", "30"], env=environ, cwd="/", check=True)
        subprocess.run([program, *healthy[1:]], env=environ, cwd="/", check=True)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
        assert (process.returncode, "done" in said) == (0, True), said
    finally:
        process.kill()
        process.wait()
