"""Graph's answers to the calls of `doctor`, and the slots that stand in the answer to a batch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from proxy.core.graph import lax_json
from proxy.core.graph.errors import GraphError, read_error
from proxy.core.model import Headers, Redacted


class Verdict(StrEnum):
    """What became of one question."""

    HOLDS = "as assumed"
    DIFFERS = "differs"
    UNKNOWN = "cannot be told"
    SKIPPED = "not asked"
    FAILED = "could not be asked"


class Judged(NamedTuple):
    """A verdict and the observation behind it, which holds no token, id or name."""

    verdict: Verdict
    detail: str


class Answer(Redacted, frozen=True):
    """One HTTP reply; `reused`: it came on a connection that had carried an earlier one; `at`: epoch seconds."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes
    version: str = "1.1"
    reused: bool = False
    at: float = 0.0

    def header(self, name: str) -> str:
        """The value of the field called *name*, "" for none."""
        return field(self.fields, name)

    @property
    def error(self) -> GraphError | None:
        """The error that the body tells of."""
        return read_error(self.body)


class Slot(Redacted, frozen=True):
    """One slot of a batch's answer; `shape`: how its header fields are written."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes
    shape: str

    @property
    def error(self) -> GraphError | None:
        """The error that the body tells of."""
        return read_error(self.body)


class Missing(Exception):  # noqa: N818 - what it says is why an answer is missing, not that something went wrong
    """There is no such answer: the verdict that follows, and why."""

    def __init__(self, verdict: Verdict, why: str) -> None:
        """Hold both."""
        super().__init__(why)
        self.judged = Judged(verdict, why)


class Transcript:
    """The answers by step, and why some are missing."""

    def __init__(self) -> None:
        """Start with no answer."""
        self.answers: dict[str, Answer] = {}
        self.missing: dict[str, Judged] = {}
        self.rest = Judged(Verdict.FAILED, "nothing was asked")
        """What holds of every step that has neither an answer nor a reason of its own."""

    def __getitem__(self, step: str) -> Answer:
        """The answer to *step*. Raises Missing."""
        if step in self.answers:
            return self.answers[step]
        raise Missing(*self.missing.get(step, self.rest))

    def slot(self, step: str, index: int) -> Slot:
        """A slot of the batch of *step*. Raises Missing."""
        answer = self[step]
        found = slots(answer)
        if found is None or index >= len(found):
            raise Missing(Verdict.FAILED, f"the batch was refused as a whole ({described(answer)})")
        slot = found[index]
        if slot is None:
            raise Missing(Verdict.UNKNOWN, "the slot came back empty")
        return slot


def field(fields: Headers, name: str) -> str:
    """The value of the field called *name* among *fields*, "" for none."""
    return next((value for told, value in fields if told.lower() == name), "")


def slots(answer: Answer) -> list[Slot | None] | None:
    """The slots of *answer*; None if it is no array."""
    try:
        found = lax_json.decode(answer.body) if answer.status == 200 else None
    except lax_json.UNREADABLE:
        return None
    return [_slot(each) for each in found] if isinstance(found, list) else None


def _slot(slot: Any) -> Slot | None:
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int):
        return None
    shape, fields = _fields(slot.get("headers"))
    body = slot.get("body")
    return Slot(status, fields, body.encode("utf-8", "replace") if isinstance(body, str) else b"", shape)


def _fields(told: Any) -> tuple[str, Headers]:
    """The header fields of a slot, in whichever shape Graph writes them."""
    if isinstance(told, dict):
        return "map", tuple((str(name), str(value)) for name, value in told.items())
    if not isinstance(told, list) or not told:
        return "none", ()
    if all(isinstance(each, dict) for each in told):
        return "objects", tuple((str(each.get("name")), str(each.get("value"))) for each in told)
    pairs = (str(each).partition(":") for each in told)
    return "strings", tuple((name, value.strip()) for name, _, value in pairs)


def described(answer: Answer | Slot) -> str:
    """Status and code of *answer*, without its words."""
    error = answer.error
    if error is None or not error.code:
        return f"status {answer.status}"
    subcode = f", subcode {error.error_subcode}" if error.error_subcode else ""
    return f"status {answer.status}, code {error.code}{subcode}"


def json_of(body: bytes) -> Any:
    """The value that *body* holds; None if it holds none."""
    try:
        return lax_json.decode(body)
    except lax_json.UNREADABLE:
        return None


class Finding(msgspec.Struct, frozen=True):
    """One line of what `doctor` tells."""

    key: str
    assumption: str
    verdict: Verdict
    detail: str
    consequence: str = ""
    settings: tuple[str, ...] = ()
    private: tuple[str, ...] = ()  # lines that may hold a path, an address or a name, and stay out of a report
