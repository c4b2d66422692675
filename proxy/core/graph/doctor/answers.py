"""Graph's answers to the calls of `doctor`, the slots in the answer to a batch, and the verdicts that follow."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from proxy.core.graph import lax_json
from proxy.core.graph.errors import GraphError, read_error
from proxy.core.model import Headers, Redacted


class Verdict(StrEnum):
    """Whether an assumption holds."""

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
        """Returns the value of the field *name*, "" without one."""
        return field(self.fields, name)

    @property
    def error(self) -> GraphError | None:
        """Graph's error in the body, None without one."""
        return read_error(self.body)


class AnswerSlot(Redacted, frozen=True):
    """One slot of a batch's answer; `shape`: how its header fields are written."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes
    shape: str

    @property
    def error(self) -> GraphError | None:
        """Graph's error in the body, None without one."""
        return read_error(self.body)


class Missing(Exception):  # noqa: N818 - says why an answer is missing, which need not be an error
    """An answer is missing; *judged* is the verdict that follows."""

    def __init__(self, verdict: Verdict, why: str) -> None:
        """Take the *verdict*, and *why* the answer is missing."""
        super().__init__(why)
        self.judged = Judged(verdict, why)


class Transcript:
    """The answers by step, and for missing ones the reason."""

    def __init__(self) -> None:
        """Start without answers."""
        self.answers: dict[str, Answer] = {}
        self.missing: dict[str, Judged] = {}
        self.rest = Judged(Verdict.FAILED, "nothing was asked")
        """The verdict for each step that has neither an answer nor a reason of its own."""

    def __getitem__(self, step: str) -> Answer:
        """Returns the answer to *step*. Raises Missing."""
        if step in self.answers:
            return self.answers[step]
        raise Missing(*self.missing.get(step, self.rest))

    def slot(self, step: str, index: int) -> AnswerSlot:
        """Returns the slot at *index* in the answer to *step*, a batch. Raises Missing."""
        answer = self[step]
        found = slots(answer)
        if found is None or index >= len(found):
            raise Missing(Verdict.FAILED, f"the batch was refused as a whole ({described(answer)})")
        slot = found[index]
        if slot is None:
            raise Missing(Verdict.UNKNOWN, "the slot came back empty")
        return slot


def field(fields: Headers, name: str) -> str:
    """Returns the value of the field *name* among *fields*, "" without one."""
    return next((value for given, value in fields if given.lower() == name), "")


def slots(answer: Answer) -> list[AnswerSlot | None] | None:
    """Returns the slots of *answer*; None if it is no array."""
    try:
        found = lax_json.decode(answer.body) if answer.status == 200 else None
    except lax_json.UNREADABLE:
        return None
    return [_slot(each) for each in found] if isinstance(found, list) else None


def _slot(slot: Any) -> AnswerSlot | None:
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int):
        return None
    shape, fields = _fields(slot.get("headers"))
    body = slot.get("body")
    return AnswerSlot(status, fields, body.encode("utf-8", "replace") if isinstance(body, str) else b"", shape)


def _fields(listed: Any) -> tuple[str, Headers]:
    """Returns the shape in which Graph wrote the header fields of a slot, and the fields."""
    if isinstance(listed, dict):
        return "map", tuple((str(name), str(value)) for name, value in listed.items())
    if not isinstance(listed, list) or not listed:
        return "none", ()
    if all(isinstance(each, dict) for each in listed):
        return "objects", tuple((str(each.get("name")), str(each.get("value"))) for each in listed)
    pairs = (str(each).partition(":") for each in listed)
    return "strings", tuple((name, value.strip()) for name, _, value in pairs)


def described(answer: Answer | AnswerSlot) -> str:
    """Returns status and code of *answer* as text, without Graph's message, which may hold names."""
    error = answer.error
    if error is None or not error.code:
        return f"status {answer.status}"
    subcode = f", subcode {error.error_subcode}" if error.error_subcode else ""
    return f"status {answer.status}, code {error.code}{subcode}"


def json_of(body: bytes) -> Any:
    """Returns the JSON value in *body*; None if it is no JSON."""
    try:
        return lax_json.decode(body)
    except lax_json.UNREADABLE:
        return None


class Finding(msgspec.Struct, frozen=True):
    """One line of the output of `doctor`."""

    key: str
    assumption: str
    verdict: Verdict
    detail: str
    consequence: str = ""
    settings: tuple[str, ...] = ()
    private: tuple[str, ...] = ()  # lines that may hold a path, an address or a name, and stay out of a report
