"""Tells of each reply: a line in the log, and a span where traces are wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core.cache.key import Keys
from proxy.core.model import USUAL_PRIORITY, Reply, Request
from proxy.core.observe import access_log
from proxy.core.observe.access_log import AccessLogEntry, Outcome, Passage
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule

LOG = "graph_sidecar.reply"
"""The logger of the lines that tell of replies."""

_log = logging.getLogger(LOG)


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Makes what is told only where somebody listens."""

    keys: Keys
    rule: Callable[[Request], Rule]

    def replied(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """A read was answered."""
        if _log.isEnabledFor(logging.INFO):
            _tell(access_log.of_read(request, reply, outcome, route, self.keys, named=self._named(request)))

    def behind(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """A read that was asked behind a reply was answered."""
        if _log.isEnabledFor(logging.INFO):
            _tell(access_log.of_read(request, reply, outcome, route, self.keys, behind=True))

    def passed(self, passage: Passage, outcome: Outcome, route: str, bill: RequestCost, batch: str) -> None:
        """A message passed through."""
        if _log.isEnabledFor(logging.INFO):
            _tell(access_log.of_passage(passage, outcome, route, bill.app, batch))

    def failed(self, word: str, outcome: Outcome, route: str) -> None:
        """A message got an error of ours, and nothing more is known of it."""
        if _log.isEnabledFor(logging.INFO):
            _tell(access_log.of_failure(word, outcome, route))

    def _named(self, request: Request) -> int | None:
        """The urgency that no rule has given *request*, so that its caller must have."""
        ruled = self.rule(request).priority
        return None if request.priority == (USUAL_PRIORITY if ruled is None else ruled) else request.priority


def _tell(told: AccessLogEntry) -> None:
    _log.info("%s", told, extra={"told": told})
