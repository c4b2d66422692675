"""`graph-sidecar replay FILE`: replays recorded traffic under other settings, and prints what they would have saved."""

from __future__ import annotations

import json
import sys

from proxy.app import from_settings
from proxy.commands.replay.log_reader import LogReader
from proxy.commands.replay.report import described, print_report
from proxy.core.replay.replay import Replay
from proxy.settings import Settings
from proxy.settings.load import SettingsError


def run(file: str, settings: Settings, *, as_json: bool = False) -> int:
    """Replay *file* under *settings* and print the report; returns 1 if some lines could not be read.

    Raises SettingsError for a file without any read.
    """
    is_shared = settings.quota.group == "shared"
    replay = Replay(
        from_settings.rules_of(settings),
        from_settings.stages(settings),
        from_settings.limits(settings),
        shared=is_shared,
    )
    log = LogReader(file)
    replay.play(log.lines())
    for complaint in log.complaints():
        sys.stderr.write(f"{complaint}\n")
    if not replay.coverage.reads:
        raise SettingsError(
            [f"{log.name}: holds no line about a read (log.format = json and log.replies = true write them)"]
        )
    report = {"file": log.name, "bad_lines": log.bad, "sample": log.sample, **described(replay)}
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        print_report(report)
    return 1 if log.bad else 0
