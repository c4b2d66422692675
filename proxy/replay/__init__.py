"""`graph-sidecar replay FILE`: recorded traffic by other settings, and what those would have saved; nobody is asked."""

from __future__ import annotations

import json
import sys

from proxy.app import derived
from proxy.core.replaying import Replay
from proxy.loading import SettingsError
from proxy.replay.log import Log
from proxy.replay.show import described, show
from proxy.settings import Settings


def run(file: str, settings: Settings, *, as_json: bool = False) -> int:
    """Replay *file* by *settings* and print what they come to; 1 where some of its lines could not be read.

    Raises SettingsError for a file without any read.
    """
    is_shared = settings.quota.group == "shared"
    replay = Replay(derived.rules_of(settings), derived.stages(settings), derived.limits(settings), shared=is_shared)
    log = Log(file)
    replay.play(log.lines())
    for complaint in log.complaints():
        sys.stderr.write(f"{complaint}\n")
    if not replay.coverage.reads:
        raise SettingsError(
            [f"{log.name}: holds no line about a read (log.format = json and log.replies = true write them)"]
        )
    told = {"file": log.name, "bad_lines": log.bad, **described(replay)}
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        show(told)
    return 1 if log.bad else 0
