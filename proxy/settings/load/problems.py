"""One line for each problem: name, value (unless it could be a credential), origin, and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxy.settings import Settings, section
from proxy.settings.load.toml import allowed, item_of, to_toml

PREFIX = "GRAPH_SIDECAR_"

# A credential in the wrong place must not be printed: it has a long run of letters and digits, or a separator.
_SECRET = re.compile(r"[A-Za-z0-9+=]{20,}|[A-Za-z0-9+=_-]{32,}|[@?|]|access_token")
_SHOWN = 100


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds one line for each reason."""

    def __init__(self, problems: list[str], usable: Settings | None = None, bad: Collection[str] = frozenset()) -> None:
        """Keep the lines (joined they are the message), the rest of the settings, and the names of the *bad* ones."""
        super().__init__("\n".join(problems))
        self.problems = problems
        self.usable = usable
        self.bad = bad

    def unrelated(self, lines: Iterable[str]) -> list[str]:
        """Returns those of *lines* that name no bad setting: a default stands in its place."""
        names = "|".join(map(re.escape, self.bad))
        return [line for line in lines if not names or not re.search(rf"(?<![\w.])({names})(?![\w.])", line)]


def describe(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    """Returns one line about a bad value: its name, the value, its origin, what is allowed."""
    location = detail["loc"]
    name, origin = path_text(location), _origin_of(location, origins)
    if detail["type"] == "missing":
        return f"{name} ({origin}): is required"
    if detail["type"] == "extra_forbidden":
        return unknown(name, origin, [f"{path_text(location[:-1])}.{known}" for known in _siblings(location)])
    must = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"must be {allowed(_info(location))}"
    return f"{name} = {printable(detail['input'])} ({origin}): {must}"


def path_text(location: Iterable[int | str]) -> str:
    """A place in the tree as text: `rules[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _origin_of(location: tuple[int | str, ...], origins: Mapping[str, str]) -> str:
    written = [path_text(location[:length]) for length in range(1, len(location) + 1)]
    below = (name for name in origins if name.startswith(f"{path_text(location)}."))
    return next((origins[name] for name in (*written, *below) if name in origins), "default")


def _info(location: Iterable[int | str]) -> FieldInfo | None:
    """Returns the field of the model at a location in the tree."""
    model: type[BaseModel] | None = Settings
    info = None
    for part in location:
        if isinstance(part, str) and model:
            info = model.model_fields[part]
            model = section(info) or item_of(info)
    return info


def _siblings(location: tuple[int | str, ...]) -> Iterable[str]:
    info = _info(location[:-1])
    model = info and item_of(info)
    return model.model_fields if model else Settings.model_fields


def printable(value: object) -> str:
    """A value as text, or `(not shown)` if it could be a credential."""
    text = to_toml(value)
    return "(not shown)" if len(text) > _SHOWN or _SECRET.search(text) else text


def unknown(name: str, origin: str, known: Iterable[str]) -> str:
    """One line on a name that is no setting, with the nearest setting."""
    below = [other for other in known if re.match(rf"{re.escape(name)}(\.|__)", other)]
    if below:
        return f"{name} ({origin}): is a section of settings; give one of {', '.join(below)}"
    nearest = next(_near(name, known), None)
    hint = f"; did you mean {nearest}?" if nearest else ""
    return f"{'(not shown)' if _may_be_credential(name) else name} ({origin}): no such setting{hint}"


def _near(name: str, known: Iterable[str]) -> Iterator[str]:
    """Yields names close to *name*, then those with the same last part (`batch.slots` for `slots`)."""
    plain = {other.removeprefix(PREFIX): other for other in known}
    name = name.removeprefix(PREFIX)
    yield from (plain[close] for close in difflib.get_close_matches(name, plain, n=1, cutoff=0.7))
    yield from (other for bare, other in plain.items() if _last(bare) == _last(name))


def _last(name: str) -> str:
    return re.split(r"\.|__", name)[-1]


def _may_be_credential(name: str) -> bool:
    """Returns whether *name* looks more like a credential than like a name."""
    return len(name) > _SHOWN or bool(re.search(r"[^A-Za-z0-9_.\[\]-]|[A-Za-z0-9]{20,}", name))
