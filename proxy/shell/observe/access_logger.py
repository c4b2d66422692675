"""Writes the access log: the entry of each reply (`core/observe/access_log`), if a handler takes log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.core.cache.key import Keys
from proxy.core.model import USUAL_PRIORITY, Reply, Request
from proxy.core.observe import access_log
from proxy.core.observe.access_log import AccessLogEntry, Outcome, PassedMessage, PreparedLine, Varying
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell.observe.log_writer import LOG, LogWriter

_log = logging.getLogger(LOG)


class Sink:
    """Takes prepared lines: straight to the writer if that is the only handler, else as records through `logging`.

    `refresh` looks at the handlers again; it is called when the log is set up or changed, and when a line is prepared.
    """

    __slots__ = ("hit", "replies", "reply")

    hit: Callable[[PreparedLine, float, float, float], None]
    reply: Callable[[PreparedLine, float, Varying], None]
    replies: Callable[[Sequence[PreparedLine], float, Varying], None]

    def __init__(self) -> None:
        """Read which handlers there are."""
        self.refresh()

    def refresh(self) -> None:
        """Read again which handlers there are."""
        if not _log.isEnabledFor(logging.INFO):
            self.hit, self.reply, self.replies = _ignore_hit, _ignore_reply, _ignore_replies
        elif (writer := _writer()) is not None:
            self.hit = writer.sampled_hit if writer.is_sampled else writer.hit
            self.reply, self.replies = writer.reply, writer.replies
        else:
            self.hit, self.reply, self.replies = _log_hit, _log_reply, _log_replies


def _ignore_hit(_line: PreparedLine, _now: float, _seconds: float, _age: float) -> None:
    """Do nothing: replies are not logged."""


def _ignore_reply(_line: PreparedLine, _now: float, _varying: Varying) -> None:
    """Do nothing: replies are not logged."""


def _ignore_replies(_lines: Sequence[PreparedLine], _now: float, _varying: Varying) -> None:
    """Do nothing: replies are not logged."""


def _log_hit(line: PreparedLine, _now: float, seconds: float, age: float) -> None:
    _log_entry(line.entry(Varying(seconds, age)))


def _log_reply(line: PreparedLine, _now: float, varying: Varying) -> None:
    _log_entry(line.entry(varying))


def _log_replies(lines: Sequence[PreparedLine], _now: float, varying: Varying) -> None:
    for line in lines:
        _log_entry(line.entry(varying))


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Makes log entries where a handler takes them; otherwise none."""

    keys: Keys
    rule: Callable[[Request], Rule]

    def replied(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """Log the *reply* to a read."""
        if _log.isEnabledFor(logging.INFO):
            _log_entry(access_log.of_read(request, reply, outcome, route, self.keys, named=self._named(request)))

    def prepare(self, request: Request, reply: Reply, outcome: Outcome, route: str, key: bytes = b"") -> PreparedLine:
        """Returns the line of *reply*, which will be given often; each time `Varying` holds what differs."""
        SINK.refresh()
        named = self._named(request)
        return PreparedLine(access_log.of_read(request, reply, outcome, route, self.keys, named=named, key=key))

    def behind(self, request: Request, reply: Reply, outcome: Outcome, route: str) -> None:
        """Log the *reply* to a read in the background."""
        if _log.isEnabledFor(logging.INFO):
            _log_entry(access_log.of_read(request, reply, outcome, route, self.keys, behind=True))

    def passed(
        self,
        passage: PassedMessage,
        outcome: Outcome,
        route: str,
        cost: RequestCost,
        batch: str,
        *,
        is_refused: bool = False,
    ) -> None:
        """Log a message that passed through; *is_refused*: it got Graph's last refusal again instead."""
        if _log.isEnabledFor(logging.INFO):
            _log_entry(access_log.of_passthrough(passage, outcome, route, cost.app, batch, is_refused=is_refused))

    def failed(self, word: str, outcome: Outcome, route: str) -> None:
        """Log a message that got an error of the sidecar's own, of which nothing more is known."""
        if _log.isEnabledFor(logging.INFO):
            _log_entry(access_log.of_failure(word, outcome, route))

    def _named(self, request: Request) -> int | None:
        """Returns the urgency that the caller of *request* sent; None if it is that of a rule."""
        ruled = self.rule(request).priority
        return None if request.priority == (USUAL_PRIORITY if ruled is None else ruled) else request.priority


def _writer() -> LogWriter | None:
    """The one handler of log lines, if there is just one: then no logging record is made of a line."""
    handlers = logging.root.handlers
    if len(handlers) == 1 and type(handlers[0]) is LogWriter and not _log.handlers:
        return handlers[0]
    return None


def _log_entry(entry: AccessLogEntry) -> None:
    if (writer := _writer()) is not None:
        writer.entry(time.time(), entry)
    else:
        _log.info("%s", entry, extra={"entry": entry})


SINK = Sink()
"""The log is one for the whole process, as `logging` is."""
