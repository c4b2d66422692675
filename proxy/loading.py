"""Fills the settings from flags, environment and file, and tells everything that is wrong with them at once.

Nothing here looks at the environment by itself: the command line hands it in.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxy.settings import Address, Settings, names, section

PREFIX = "GRAPH_SIDECAR_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
SHORT_FLAGS = {"--listen": "listen", "--admin": "admin", "--upstream": "upstream.origin", "--cache-dir": "cache.dir"}

# A Kubernetes Service called graph-sidecar, or graph-sidecar-something, puts its own variables into every pod
# beside it. A bare ..._PORT is one of them only when it holds a URL.
_SERVICE = re.compile(
    rf"{PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)"
)
_SERVICE_PORT = re.compile(rf"{PREFIX}([A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")

# A credential in the wrong place must not be repeated: it holds a long run of letters and digits, or a separator.
_SECRET = re.compile(r"[A-Za-z0-9+=]{20,}|[A-Za-z0-9+=_-]{32,}|[@?|]|access_token")
_SHOWN = 100


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the lines; together they are the message."""
        super().__init__("\n".join(problems))
        self.problems = problems


class Given(NamedTuple):
    """A value as one place gives it, and what that place is called."""

    value: Any
    origin: str


@dataclass
class Place:
    """Somewhere settings come from: what it gives, by name, and what in it is no setting."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Loaded(NamedTuple):
    """The settings, and for each where it came from."""

    settings: Settings
    origins: dict[str, str]


def load(
    *, flags: Iterable[tuple[str, str]] = (), environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Loaded:
    """The settings from *flags* over *environ* over *file* over the defaults. Raises SettingsError."""
    environ = environ or {}
    places = [from_flags(flags), from_environment(environ), from_file(file, environ.get(CONFIG_VARIABLE))]
    merged = {name: given for place in reversed(places) for name, given in place.given.items()}
    origins = {name: given.origin for name, given in merged.items()}
    problems = [problem for place in places for problem in place.problems]
    try:
        settings = Settings.model_validate(_tree({name: given.value for name, given in merged.items()}))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SettingsError(problems + [_describe(detail, origins) for detail in details]) from None
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, {name: origins.get(name, "default") for name in names()})


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """*values* by dotted name as tables; every section is named, so that a refused default is told by its full name."""
    tree: dict[str, Any] = {name: {} for name in _sections()}
    for name, value in values.items():
        above, _, last = name.rpartition(".")
        (tree[above] if above else tree)[last] = value
    return tree


def from_flags(flags: Iterable[tuple[str, str]]) -> Place:
    """What the command line gives, as pairs of flag and text; the last of a name wins."""
    place = Place()
    for flag, text in flags:
        name, equals, value = (SHORT_FLAGS[flag], "=", text) if flag in SHORT_FLAGS else text.partition("=")
        name = name.strip()
        if not equals:
            place.problems.append(f"{flag} {shown(text)}: must be KEY=VALUE, such as batch.window_ms=5")
        elif name in names():
            place.given[name] = Given(decode(value, names()[name]), flag)
        else:
            place.problems.append(unknown(name, flag, names()))
    return place


def from_environment(environ: Mapping[str, str]) -> Place:
    """What the variables that begin with our name give."""
    place = Place()
    variables = {variable(name): name for name in names()}
    for key, text in environ.items():
        if key in variables:
            name = variables[key]
            place.given[name] = Given(decode(text, names()[name]), key)
        elif key.startswith(PREFIX) and key != CONFIG_VARIABLE and not _is_service(key, text):
            place.problems.append(unknown(key, "environment", variables))
    return place


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper().replace(".", "__")


def _is_service(key: str, text: str) -> bool:
    if _SERVICE.fullmatch(key):
        return True
    return bool(_SERVICE_PORT.fullmatch(key) and _SERVICE_URL.match(text))


def from_file(file: Path | None, from_variable: str | None = None) -> Place:
    """What the TOML file gives: *file*, or else the one that the environment names."""
    place = Place()
    path = file or (Path(from_variable).expanduser() if from_variable else None)
    if path is None:
        return place
    named_by = "--config" if file else CONFIG_VARIABLE
    try:
        table = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        place.problems.append(f"{path} ({named_by}): cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        place.problems.append(f"{path} ({named_by}): is not TOML: not written in UTF-8")
    except (ValueError, RecursionError) as error:  # beyond bad syntax: numbers too long, arrays too deep
        place.problems.append(f"{path} ({named_by}): is not TOML: {error}")
    else:
        _fill(place, table, str(path))
    return place


def _fill(place: Place, table: Mapping[str, Any], origin: str, prefix: str = "") -> None:
    for key, value in table.items():
        name = prefix + key
        if name in names():
            place.given[name] = Given(value, origin)
        elif isinstance(value, dict) and (value or name in _sections()):
            _fill(place, value, origin, f"{name}.")
        else:
            place.problems.append(unknown(name, origin, names()))


def _sections() -> list[str]:
    return [name for name, info in Settings.model_fields.items() if section(info)]


def decode(text: str, info: FieldInfo) -> object:
    """The value that *text* stands for: JSON or TOML where the setting is no string, else the text itself."""
    value = _literal(text)
    if _is_text(info):
        return value if isinstance(value, str) else text
    if isinstance(value, str) or value is None:
        return text
    return value


def _literal(text: str) -> object:
    """*text* read as JSON (how charts write lists), else as TOML (how the file does), else None."""
    # Helm and compose files write True as readily as true.
    text = text.strip().lower() if text.strip().lower() in {"true", "false"} else text
    try:
        if text.lstrip().startswith(("[", "{", '"')):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    return table["value"] if len(table) == 1 else None


def _is_text(info: FieldInfo) -> bool:
    """Whether the setting is written as a plain string: a word, a path, an address."""
    kind = _kind(info)
    return kind not in {bool, int, float} and get_origin(kind) is not tuple


def _kind(info: FieldInfo) -> Any:
    """The type of a setting, without the None of those that may be left out."""
    arms = get_args(info.annotation)
    return next(arm for arm in arms if arm is not NoneType) if NoneType in arms else info.annotation


def _describe(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    """One line on one bad value: its name, the value, where it came from, what is allowed."""
    location = detail["loc"]
    name, origin = _written(location), _origin_of(location, origins)
    if detail["type"] == "missing":
        return f"{name} ({origin}): is required"
    if detail["type"] == "extra_forbidden":
        return unknown(name, origin, [f"{_written(location[:-1])}.{known}" for known in _siblings(location)])
    must = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"must be {allowed(_info(location))}"
    return f"{name} = {shown(detail['input'])} ({origin}): {must}"


def _written(location: Iterable[int | str]) -> str:
    """A place in the tree as one writes it: `rules[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _origin_of(location: tuple[int | str, ...], origins: Mapping[str, str]) -> str:
    written = [_written(location[:length]) for length in range(1, len(location) + 1)]
    return next((origins[name] for name in written if name in origins), "default")


def _info(location: Iterable[int | str]) -> FieldInfo | None:
    """The field of the model that a place in the tree belongs to."""
    model: type[BaseModel] | None = Settings
    info = None
    for part in location:
        if isinstance(part, str) and model:
            info = model.model_fields[part]
            model = section(info) or _item(info)
    return info


def _item(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a list's items."""
    first = next(iter(get_args(info.annotation)), None)
    return first if isinstance(first, type) and issubclass(first, BaseModel) else None


def _siblings(location: tuple[int | str, ...]) -> Iterable[str]:
    info = _info(location[:-1])
    model = info and _item(info)
    return model.model_fields if model else Settings.model_fields


def allowed(info: FieldInfo | None) -> str:
    """What a setting takes, in words."""
    kind = _kind(info) if info else None
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in {int, float}:
        low, high = _bounds(info)
        return f"a {'whole ' if kind is int else ''}number from {low:g} to {high:.15g}"
    if info and _item(info):
        return "a table with at least a path"
    return "text"


def meaning(info: FieldInfo) -> str:
    """What a setting is for, and what it takes where that is bounded."""
    takes = allowed(info)
    return (
        f"{info.description} ({takes})"
        if takes.startswith(("a number", "a whole", "one of"))
        else str(info.description)
    )


def _bounds(info: FieldInfo | None) -> tuple[float, float]:
    found = info.metadata if info else []
    low = next(bound.ge for bound in found if hasattr(bound, "ge"))
    high = next(bound.le for bound in found if hasattr(bound, "le"))
    return low, high


def shown(value: object) -> str:
    """A value as it may be repeated: never one that could be a credential."""
    text = written(value)
    return "(not shown)" if len(text) > _SHOWN or _SECRET.search(text) else text


def written(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:.15g}"
        case str() | Path() | Address():
            return json.dumps(str(value), ensure_ascii=False)
        case BaseModel():
            return written(value.model_dump(exclude_unset=True))
        case list() | tuple():
            return f"[{', '.join(written(item) for item in value)}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {written(item)}' for key, item in value.items())} }}"
    return str(value)


def unknown(name: str, origin: str, known: Iterable[str]) -> str:
    """One line on a name that is no setting, with the nearest that is."""
    below = [other for other in known if re.match(rf"{re.escape(name)}(\.|__)", other)]
    if below:
        return f"{name} ({origin}): is a section of settings; give one of {', '.join(below)}"
    nearest = next(_near(name, known), None)
    hint = f"; did you mean {nearest}?" if nearest else ""
    return f"{'(not shown)' if _unspeakable(name) else name} ({origin}): no such setting{hint}"


def _near(name: str, known: Iterable[str]) -> Iterator[str]:
    """Names close to *name*, then those that end alike, as `slots` does `batch.slots`."""
    plain = {other.removeprefix(PREFIX): other for other in known}
    name = name.removeprefix(PREFIX)
    yield from (plain[close] for close in difflib.get_close_matches(name, plain, n=1, cutoff=0.7))
    yield from (other for bare, other in plain.items() if _last(bare) == _last(name))


def _last(name: str) -> str:
    return re.split(r"\.|__", name)[-1]


def _unspeakable(name: str) -> bool:
    """Whether a name looks more like a credential than like a name."""
    return len(name) > _SHOWN or bool(re.search(r"[^A-Za-z0-9_.\[\]-]|[A-Za-z0-9]{20,}", name))
