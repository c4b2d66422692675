"""The `fields` language: names, modifiers and nested selections.

`a,b{c}`, `edge.limit(2){id}`, `edge.limit(2).fields(id)`, `name.as(alias)`
(developers.facebook.com, "Field Expansion").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from proxy.emulator.language.errors import bad_syntax

_NAME = re.compile(r"[\w:\-]+")
_SPACE = re.compile(r"\s*")


@dataclass(slots=True)
class Field:
    """One field of a request, with the fields asked for inside it."""

    name: str
    modifiers: dict[str, str] = field(default_factory=dict)
    inner: str | None = None
    """The text of the nested selection, kept for the links of the edge."""

    @property
    def alias(self) -> str:
        """The key under which the caller wants the value."""
        return self.modifiers.get("as", self.name)

    @property
    def fields(self) -> tuple[Field, ...] | None:
        """The nested selection, if there is one."""
        return None if self.inner is None else parse_selection(self.inner)


def parse_fields(value: Any) -> tuple[Field, ...] | None:
    """The selection in a `fields` parameter, text or list; nothing asked gives None."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value or "").strip()
    if text.startswith("["):
        text = ",".join(map(str, json.loads(text))) if _is_list(text) else text
    return parse_selection(text) if text else None


def check_repeated(value: Any) -> None:
    """Raise for a list that names a field twice at its top level: that is refused since v2.1."""
    names: set[str] = set()
    for field_asked in parse_fields(value) or ():
        if field_asked.name in names:
            text = str(value)
            said = "Field name specified more than once. This is only possible before version 2.1"
            raise bad_syntax(said, max(0, text.rfind(field_asked.name)), text)
        names.add(field_asked.name)


@lru_cache(maxsize=4096)
def parse_selection(text: str) -> tuple[Field, ...]:
    """The selection that *text* describes."""
    scanner = _Scanner(text)
    found = tuple(scanner.selection())
    if scanner.at < len(text):
        raise bad_syntax(f'Expected end of string instead of "{text[scanner.at]}".', scanner.at, text)
    return found


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


class _Scanner:
    """A cursor over the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def selection(self) -> Iterator[Field]:
        """Read fields up to something that is no comma; empty places between commas do not matter."""
        while True:
            while self.take(","):
                pass
            if not self.here() or self.here() == "}":
                return
            yield self.field()
            if self.here() != ",":
                return

    def field(self) -> Field:
        """Read a name with its modifiers and its braces."""
        asked = Field(self.name())
        while self.take("."):
            self.modifier(asked)
        if self.here() == "{":
            asked.inner = self.enclosed("{", "}")
        return asked

    def modifier(self, asked: Field) -> None:
        """Read `limit(2)`; `fields(…)` is another way to write braces."""
        name, inside = self.name(), self.enclosed("(", ")")
        if name == "fields":
            asked.inner = inside
        else:
            asked.modifiers[name] = inside

    def name(self) -> str:
        """Read a name."""
        self.here()
        found = _NAME.match(self.text, self.at)
        if found is None:
            raise bad_syntax("Expected name.", self.at, self.text)
        self.at = found.end()
        return found.group()

    def enclosed(self, opening: str, closing: str) -> str:
        """Read from *opening* to the *closing* that belongs to it, and return what lies between."""
        if not self.take(opening):
            raise bad_syntax(f'Expected "{opening}".', self.at, self.text)
        start, depth = self.at, 1
        while depth:
            if self.at >= len(self.text):
                raise bad_syntax(f'Expected "{closing}".', self.at, self.text)
            depth += {opening: 1, closing: -1}.get(self.text[self.at], 0)
            self.at += 1
        return self.text[start : self.at - 1]

    def take(self, char: str) -> bool:
        """Read *char* if it comes next."""
        if self.here() != char:
            return False
        self.at += 1
        return True

    def here(self) -> str:
        """Skip white space and look at the next character; empty at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]
