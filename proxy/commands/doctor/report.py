"""Writes the findings of `doctor`: as text, as JSON, and as a report without tokens, ids and names."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from proxy.core.graph.doctor.answers import Finding, Verdict
from proxy.settings.load import to_toml

_MARKS = {
    Verdict.HOLDS: "ok",
    Verdict.DIFFERS: "DIFFERS",
    Verdict.UNKNOWN: "?",
    Verdict.SKIPPED: "-",
    Verdict.FAILED: "FAILED",
}
_WIDTH = 110


class Result(NamedTuple):
    """The findings of one run."""

    version: str
    api_version: str  # that served the first call; "" if there was none
    calls: int
    http_calls: int
    findings: list[Finding]
    settings: Mapping[str, object]  # the values of the settings that findings name
    changed: frozenset[str]  # those whose value is not the default

    @property
    def status(self) -> int:
        """The exit status: 0 if every assumption that was tested holds, else 1."""
        return 0 if all(each.verdict in (Verdict.HOLDS, Verdict.SKIPPED) for each in self.findings) else 1


def for_people(found: Result) -> str:
    """Returns the findings as text, each with what the sidecar does and the settings in force."""
    lines = []
    for each in found.findings:
        lines.append(f"{_MARKS[each.verdict]:<8}{each.assumption}")
        if each.detail:
            lines += _wrapped("seen: ", each.detail)
        lines += [line for text in each.private for line in _wrapped("", text)]
        if each.consequence:
            lines += _wrapped("the sidecar: ", each.consequence)
        lines += [f"        {name} = {to_toml(found.settings[name])}" for name in each.settings]
    return "\n".join([*lines, "", _summary(found)]) + "\n"


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name}{text}", _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 10)


def _summary(found: Result) -> str:
    numbers = Counter(each.verdict for each in found.findings)
    counts = ", ".join(f"{numbers[verdict]} {verdict.value}" for verdict in Verdict if numbers[verdict])
    return f"{counts}; {found.calls} calls in {found.http_calls} HTTP requests"


def as_json(found: Result) -> str:
    """Returns everything as JSON, paths and addresses of this machine included."""
    private = {each.key: list(each.private) for each in found.findings if each.private}
    settings = {name: _jsonable(value) for name, value in found.settings.items()}
    return json.dumps({**_plain(found), "private": private, "settings": settings}, indent=2) + "\n"


def as_json_report(found: Result) -> str:
    """Returns the same without anything private."""
    return json.dumps(_plain(found), indent=2) + "\n"


def _plain(found: Result) -> dict[str, object]:
    rows = [
        {
            "key": each.key,
            "assumption": each.assumption,
            "verdict": each.verdict.value,
            "detail": each.detail,
            "consequence": each.consequence,
            "settings": {name: "changed" if name in found.changed else "default" for name in each.settings},
        }
        for each in found.findings
    ]
    head = {"version": found.version, "api_version": found.api_version, "status": found.status}
    return {**head, "calls": found.calls, "http_calls": found.http_calls, "findings": rows}


def _jsonable(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)


def for_an_issue(found: Result) -> str:
    """Returns a table in Markdown without anything private: of settings it says only default or changed."""
    head = f"graph-sidecar {found.version}, Graph API {found.api_version or 'unknown'}: {_summary(found)}"
    rows = [
        f"| {each.key} | {each.verdict.value} | {each.detail.replace('|', '/')} | {_settings(each, found)} |"
        for each in found.findings
    ]
    return "\n".join([head, "", "| assumption | verdict | seen | settings |", "|---|---|---|---|", *rows]) + "\n"


def _settings(finding: Finding, found: Result) -> str:
    states = (f"{name} {'changed' if name in found.changed else 'default'}" for name in finding.settings)
    return ", ".join(states)


WRITERS: dict[tuple[bool, bool], Callable[[Result], str]] = {
    (False, False): for_people,
    (True, False): as_json,
    (False, True): for_an_issue,
    (True, True): as_json_report,
}
"""By whether JSON is wanted, and whether private lines are left out."""
