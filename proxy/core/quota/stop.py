"""A stopped limit: no read is sent before its time is up; then one read, the probe, tests whether Graph answers again.

How long a limit stays stopped, in this order: as long as Graph said; as long as refusals with that code last; else
until a probe after 1 s, then 2 s, 4 s and so on up to `quota.probe_s`. Where Graph named no time, the retry of a caller
that was refused is a probe as well. `buckets` stops limits and ends their stops; `limiter.admit` obeys them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.model import Reply

FIRST_PAUSE_S = 1.0
"""Seconds before the first probe after a refusal, unless Graph says how long."""

LONGEST_PROBE_S = 900.0
"""The longest pause before a probe under a limit that is at 100 % but has refused nothing."""

LONGEST_NAMED_S = 86400.0
"""The longest time that is taken from Graph's own statement of when there is allowance again."""


class LimitRefusal(NamedTuple):
    """Graph's refusal of a read because a limit is reached, and how long it will last."""

    reply: Reply
    regain_s: float = 0.0  # seconds until there is allowance again, as Graph said; 0: Graph did not say
    block_s: float = 0.0  # seconds that a refusal with this error code lasts; 0: not known


@dataclass(slots=True)
class Stop:
    """A stop: no read is sent under the limit before *until*, except the probe."""

    until: float
    error: Reply | None = None  # Graph's refusal; None where only the usage header said 100 %
    failures: int = 0  # probes that were refused
    is_named: bool = False  # whether Graph itself named the time
    is_probed: bool = False

    def is_due(self, now: float) -> bool:
        """Returns whether the next read is to be sent as the probe."""
        return now >= self.until and not self.is_probed

    def allows(self, now: float, *, after_refusal: bool) -> bool:
        """Returns whether a read is sent: as the probe, or because it is a retry *after_refusal*."""
        return self.is_due(now) or (after_refusal and not (self.is_named and now < self.until))

    def seconds_left(self, now: float) -> float:
        """Returns the seconds after which a retry will be sent: the rest of the time that Graph named, else 0."""
        return max(0.0, self.until - now) if self.is_named else 0.0


def pause_after_refusals(failures: int, probe_s: float) -> float:
    """Returns the seconds before the next probe after a refusal, where Graph named no time: 1, then doubled.

    Most clients double their own backoff, so a probe goes about as often as one client alone would retry.
    """
    return min(FIRST_PAUSE_S * 2.0 ** min(failures, 16), probe_s)


def pause_at_full(reported_regain_s: float, failures: int, probe_s: float) -> float:
    """Returns the seconds before the next probe under a limit at 100 % that has refused nothing.

    No caller is refused meanwhile (`error` is None, so `admit` refuses no read).
    """
    return reported_regain_s or min(probe_s * 2.0 ** min(failures, 16), max(LONGEST_PROBE_S, probe_s))


def stop_after_refusal(refusal: LimitRefusal, named_s: float, failures: int, probe_s: float, now: float) -> Stop:
    """Returns a stop for the *named_s* that Graph named, or else for the pause after so many *failures*."""
    if named_s:
        return Stop(now + min(named_s, LONGEST_NAMED_S), refusal.reply, failures, is_named=True)
    return Stop(now + (refusal.block_s or pause_after_refusals(failures, probe_s)), refusal.reply, failures)
