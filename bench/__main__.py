"""Runs every measurement, or those that are named, and ends with a table of what was wanted and what was found."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import VERDICTS, show_verdicts

SCRIPTS = (
    "read_path",
    "lanes",
    "walk",
    "lone_get",
    "transparent",
    "thousand_gets",
    "identical_gets",
    "split_batch",
    "merged_fields",
    "dashboard_trace",
    "backoff",
    "core_cost",
    "metrics_scrape",
    "first_paint",
    "beside_nginx",
    "reload_drain",
    "overload",
    "fleet",
    "memory",
    "sizing",
)

LONG = ("soak",)
"""Measurements that run only where they are named."""


def main(named):
    """The status is 0 if every target that was measured is met."""
    unknown = [name for name in named if name not in SCRIPTS + LONG]
    if unknown:
        print(f"bench: there is no {', '.join(unknown)} among {', '.join(SCRIPTS + LONG)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        verdicts = Path(folder, "verdicts")
        verdicts.touch()
        failed = [name for name in named or SCRIPTS if not _run(name, verdicts)]
        print("== all targets")
        met = show_verdicts(verdicts)
    if failed:
        print(f"bench: {', '.join(failed)} did not finish", file=sys.stderr)
    return 0 if met and not failed else 1


def _run(name, verdicts):
    claim = importlib.import_module(f"bench.{name}").__doc__.strip().partition("\n")[0]
    print(f"== {name}: {claim}\n", flush=True)
    return (
        subprocess.run(
            [sys.executable, "-m", f"bench.{name}"], env={**os.environ, VERDICTS: str(verdicts)}, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
