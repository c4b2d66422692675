from __future__ import annotations

from proxy.shell.telemetry import LIMITS, Gauges, Telemetry


def test_of_many_limits_the_tightest_are_told() -> None:
    """There may be one for each token, and those who look on are told each second."""
    telemetry = Telemetry(lambda: 0.0, lambda: 0.0)
    app = {"kind": "app", "type": "", "stage": "calm"}
    usage = [{**app, "id": str(number), "percent": number} for number in range(3 * LIMITS)]
    telemetry.gauges = Gauges(usage=lambda: usage)
    told = telemetry.stats()["usage"]
    assert told == usage[: -LIMITS - 1 : -1]
