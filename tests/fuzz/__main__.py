"""Fuzzes by coverage.

python -m tests.fuzz [--seconds N] [--keep] [TARGET...]

Each target runs in a process of its own, which starts from the kept inputs and looks for inputs that reach lines that
none of them reaches. An input that fails is written to build/fuzz and named at the end, with status 1. With --keep the
inputs that reach more become the kept ones. Needs atheris; `make fuzz` sets it up.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "build" / "fuzz"
LONGEST = 2048
"""Bytes of an input at most."""
MOST_KEPT = 60
"""Inputs that one run adds to the kept ones of a target at most, the shortest."""
HANGS_S, MOST_MB = 20, 2048
"""An input that takes longer than this, or more memory, has failed."""


def main() -> int:
    """Fuzz the targets that are named, or all; the status is 1 if one of them failed."""
    from tests.fuzz.targets import TARGETS

    given = argparse.ArgumentParser(prog="tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    given.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    given.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    given.add_argument("--keep", action="store_true", help="keep the inputs that reach more")
    options = given.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        given.error(f"no such target: {', '.join(sorted(unknown))}")
    names = options.targets or list(TARGETS)
    failed = [name for name in names if not run(name, options.seconds, keeps=options.keep)]
    if failed:
        print(f"fuzz: {', '.join(failed)} failed; the inputs are in {FOUND}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, seconds: int, *, keeps: bool) -> bool:
    """Fuzz one target for so many *seconds*; whether it did not fail."""
    from tests.fuzz.targets import corpus_of, keep

    FOUND.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        seeds, more = Path(folder, "seeds"), Path(folder, "more")
        seeds.mkdir()
        more.mkdir()
        for data in corpus_of(name):
            (seeds / hashlib.sha256(data).hexdigest()).write_bytes(data)
        options = [f"-max_len={LONGEST}", f"-timeout={HANGS_S}", f"-rss_limit_mb={MOST_MB}"]
        limits = [f"-max_total_time={seconds}", f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1"]
        print(f"== {name}", flush=True)
        told = _one(name, *options, *limits, more, seeds)
        print(_summary(told.stderr), flush=True)
        if told.returncode:
            print(told.stderr[-6000:] + told.stdout[-2000:], file=sys.stderr)
            return False
        if keeps:
            best = Path(folder, "best")
            best.mkdir()
            merged = _one(name, *options, "-merge=1", best, seeds, more, again=_launcher(folder, name))
            assert not merged.returncode, merged.stderr
            found = sorted((file.read_bytes() for file in best.iterdir()), key=len)[:MOST_KEPT]
            keep(name, list({*corpus_of(name), *found}))
    return True


def _launcher(folder: str, name: str) -> str:
    """A program that libFuzzer can run to fuzz the target in processes of its own, as it does to merge."""
    file = Path(folder, "again")
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz --one {name} {file} "$@"\n')
    file.chmod(0o700)
    return str(file)


def _one(name: str, *arguments: object, again: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, again or sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace",
                          check=False)  # fmt: skip


def _summary(told: str) -> str:
    """How many inputs were tried, and what they reached."""
    lines = told.splitlines()
    tried = next((line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")), "?")
    reached = next((line for line in reversed(lines) if " cov: " in line), "").partition(" cov: ")[2]
    return f"   {tried} inputs; places reached: {reached.split(' ')[0] or '?'}"


def fuzz(name: str, arguments: list[str]) -> None:
    """Be the process that fuzzes one target; it ends with the run."""
    import atheris

    with atheris.instrument_imports(include=["proxy"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with target.begin() as parse:
        atheris.Setup(arguments, lambda data: target.reads(parse, data))
        atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    sys.exit(main())
