from __future__ import annotations

from proxy.shell.observe.counters import Counters
from proxy.shell.observe.gauges import Gauges
from proxy.shell.observe.stats import LIMITS, stats


def test_of_many_limits_the_tightest_are_told() -> None:
    """There may be one for each token, and those who look on are told each second; one that is reached comes first."""
    telemetry = Counters(lambda: 0.0, lambda: 0.0)
    app = {"kind": "app", "type": "", "stage": "calm", "regain_s": None, "regain_named": False}
    usage = [{**app, "id": str(number), "percent": number} for number in range(3 * LIMITS)]
    telemetry.gauges = Gauges(usage=lambda: usage)
    assert stats(telemetry)["usage"] == usage[: -LIMITS - 1 : -1]
    usage[0]["stage"] = "stop"  # of what it uses little was told
    assert stats(telemetry)["usage"][:2] == [usage[0], usage[-1]]
