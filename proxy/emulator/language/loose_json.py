"""A JSON reader as forgiving as Meta's: single quotes, bare keys, trailing commas.

The samples in "Batch Requests" and "Asynchronous and Batch Requests" on developers.facebook.com need all three.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r"[^\s,:{}\[\]'\"]+")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_DEEPEST = 200
_strictly = json.JSONDecoder(strict=False).decode


def loads(text: str) -> Any:
    """The value that *text* holds; text that even a loose reader refuses raises ValueError."""
    try:
        return _strictly(text)
    except (ValueError, RecursionError):
        return _Reader(text).whole()


class _Reader:
    """A cursor over the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def whole(self) -> Any:
        """Read one value and nothing after it."""
        value = self.value()
        if self.peek():
            raise ValueError(f"extra text at {self.at}")
        return value

    def value(self) -> Any:
        """Read whatever comes next."""
        match self.peek():
            case "{":
                return self.nested(self.mapping)
            case "[":
                return self.nested(self.sequence)
            case "'" | '"':
                return self.string()
            case _:
                return self.scalar()

    def nested(self, read: Any) -> Any:
        """Step into a container, but not endlessly."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("nested too deeply")
        self.at += 1
        value = read()
        self.depth -= 1
        return value

    def mapping(self) -> dict[str, Any]:
        """Read up to the closing brace."""
        found: dict[str, Any] = {}
        while not self.take("}"):
            key = self.string() if self.peek() in ("'", '"') else self.bare()
            self.expect(":")
            found[key] = self.value()
            self.separate("}")
        return found

    def sequence(self) -> list[Any]:
        """Read up to the closing bracket."""
        found: list[Any] = []
        while not self.take("]"):
            found.append(self.value())
            self.separate("]")
        return found

    def string(self) -> str:
        """Read a quoted string; the same quote ends it."""
        quote, parts = self.text[self.at], []
        self.at += 1
        while (char := self.next()) != quote:
            parts.append(self.escape() if char == "\\" else char)
        return "".join(parts)

    def escape(self) -> str:
        """Read what follows a backslash."""
        char = self.next()
        if char != "u":
            return _ESCAPES.get(char, char)
        digits = self.text[self.at : self.at + 4]
        self.at += 4
        return chr(int(digits, 16))

    def scalar(self) -> Any:
        """Read a number, true, false or null; any other bare word is an error."""
        return json.loads(self.bare())

    def bare(self) -> str:
        """Read an unquoted word."""
        self.peek()
        found = _BARE.match(self.text, self.at)
        if found is None:
            raise ValueError(f"nothing to read at {self.at}")
        self.at = found.end()
        return found.group()

    def separate(self, closing: str) -> None:
        """Read a comma unless *closing* comes next."""
        if self.peek() != closing:
            self.expect(",")

    def expect(self, char: str) -> None:
        """Read *char* and accept nothing else."""
        if not self.take(char):
            raise ValueError(f"{char!r} is missing at {self.at}")

    def take(self, char: str) -> bool:
        """Read *char* if it comes next."""
        if self.peek() != char:
            return False
        self.at += 1
        return True

    def peek(self) -> str:
        """Skip white space and look at the next character; empty at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        """Read one character of a string."""
        if self.at >= len(self.text):
            raise ValueError("a string has no end")
        self.at += 1
        return self.text[self.at - 1]
