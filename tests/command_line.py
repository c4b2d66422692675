"""The command line, given as users give it: in a process of its own, or in this one where only its words are judged."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from proxy import cli

Done = subprocess.CompletedProcess[str]


def started(*arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """The real command, in a process of its own: a second of work for what it takes to be loaded."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def said(*arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """What the command says and the status that it ends with, without a process."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, environ or {}), redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
