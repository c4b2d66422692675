"""Tells of each reply: a line in the log, and a span where traces are wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core import telling
from proxy.core.keys import Keys
from proxy.core.ledger import Bill
from proxy.core.messages import USUAL_PRIORITY, Reply, Request
from proxy.core.rules import Rule
from proxy.core.telling import Outcome, Passage, Told

LOG = "graph_sidecar.reply"
"""The logger of the lines that tell of replies."""

_log = logging.getLogger(LOG)


@dataclass(frozen=True, slots=True)
class Telling:
    """Makes what is told only where somebody listens."""

    keys: Keys
    rule: Callable[[Request], Rule]

    def replied(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """A read was answered."""
        if _log.isEnabledFor(logging.INFO):
            _tell(telling.of_read(request, reply, outcome, route, self.keys, named=self._named(request)))

    def behind(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """A read that was asked behind a reply was answered."""
        if _log.isEnabledFor(logging.INFO):
            _tell(telling.of_read(request, reply, outcome, route, self.keys, behind=True))

    def passed(self, passage: Passage, outcome: Outcome, route: str, bill: Bill, batch: str) -> None:
        """A message passed through."""
        if _log.isEnabledFor(logging.INFO):
            _tell(telling.of_passage(passage, outcome, route, bill.app, batch))

    def failed(self, word: str, outcome: Outcome, route: str) -> None:
        """A message got an error of ours, and nothing more is known of it."""
        if _log.isEnabledFor(logging.INFO):
            _tell(telling.of_failure(word, outcome, route))

    def _named(self, request: Request) -> int | None:
        """The urgency that no rule has given *request*, so that its caller must have."""
        ruled = self.rule(request).priority
        return None if request.priority == (USUAL_PRIORITY if ruled is None else ruled) else request.priority


def _tell(told: Told) -> None:
    _log.info("%s", told, extra={"told": told})
