"""Reads settings from flags, environment and file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_origin

from pydantic.fields import FieldInfo

from proxy.settings import Settings, names, section
from proxy.settings.load.problems import PREFIX, printable, unknown
from proxy.settings.load.toml import kind_of


def parse_value(text: str, info: FieldInfo) -> object:
    """Returns the value in *text*: JSON or TOML if the setting is no string, else the text itself."""
    value = _literal(text)
    if _is_plain_string(info):
        return value if isinstance(value, str) else text
    if isinstance(value, str) or value is None:
        return text
    return value


def _literal(text: str) -> object:
    """Returns *text* parsed as JSON (as Helm charts write lists), else as TOML (as in the file), else None."""
    # Helm charts and compose files also write True.
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


def _is_plain_string(info: FieldInfo) -> bool:
    """Returns whether the setting is a plain string: a word, a path, an address."""
    kind = kind_of(info)
    return kind not in {bool, int, float} and get_origin(kind) is not tuple


CONFIG_VARIABLE = PREFIX + "CONFIG"
DEFAULTS_VARIABLE = PREFIX + "DEFAULTS"
"""The variable that names a file of defaults, for packagers; every other source overrides these."""
SHORT_FLAGS = {
    "--listen": "listen",
    "--admin": "admin",
    "--upstream": "upstream.origin",
    "--cache-dir": "cache.dir",
    "--compare": "compare.percent",
}

# A Kubernetes Service called graph-sidecar, or graph-sidecar-something, puts its own variables into every pod
# beside it. A bare ..._PORT is one of them only when it holds a URL.
_SERVICE = re.compile(
    rf"{PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)"
)
_SERVICE_PORT = re.compile(rf"{PREFIX}([A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


class Given(NamedTuple):
    """A value, and the name of the source that gives it."""

    value: Any
    origin: str


@dataclass
class Source:
    """A source of settings: its values by name, and its problems."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def from_flags(flags: Iterable[tuple[str, str]]) -> Source:
    """Values from the command line, as pairs of flag and text; the last pair of a name wins."""
    source = Source()
    for flag, text in flags:
        name, equals, value = (SHORT_FLAGS[flag], "=", text) if flag in SHORT_FLAGS else text.partition("=")
        name = name.strip()
        if not equals:
            source.problems.append(f"{flag} {printable(text)}: must be KEY=VALUE, such as batch.window_ms=5")
        elif name in names():
            source.given[name] = Given(parse_value(value, names()[name]), flag)
        else:
            source.problems.append(unknown(name, flag, names()))
    return source


def from_environment(environ: Mapping[str, str]) -> Source:
    """Values from the environment variables that begin with GRAPH_SIDECAR_."""
    source = Source()
    variables = {variable(name): name for name in names()}
    for key, text in environ.items():
        if key in variables:
            name = variables[key]
            source.given[name] = Given(parse_value(text, names()[name]), key)
        elif key.startswith(PREFIX) and key not in {CONFIG_VARIABLE, DEFAULTS_VARIABLE} and not _is_service(key, text):
            source.problems.append(unknown(key, "environment", variables))
    return source


def variable(name: str) -> str:
    """Returns the environment variable of the setting *name*."""
    return PREFIX + name.upper().replace(".", "__")


def _is_service(key: str, text: str) -> bool:
    if _SERVICE.fullmatch(key):
        return True
    return bool(_SERVICE_PORT.fullmatch(key) and _SERVICE_URL.match(text))


def from_named_file(environ: Mapping[str, str], named_by: str) -> Source:
    """Values from the TOML file that the variable *named_by* names."""
    name = environ.get(named_by)
    return from_file(Path(name).expanduser(), named_by) if name else Source()


def from_file(path: Path, named_by: str = "--config") -> Source:
    """Values from the TOML file at *path*, which *named_by* named."""
    source = Source()
    try:
        table = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        source.problems.append(f"{path} ({named_by}): cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        source.problems.append(f"{path} ({named_by}): is not TOML: not written in UTF-8")
    except (ValueError, RecursionError) as error:  # beyond bad syntax: numbers too long, arrays too deep
        source.problems.append(f"{path} ({named_by}): is not TOML: {error}")
    else:
        _collect(source, table, str(path))
    return source


def _collect(source: Source, table: Mapping[str, Any], origin: str, prefix: str = "") -> None:
    for key, value in table.items():
        name = prefix + key
        if name in names():
            source.given[name] = Given(value, origin)
        elif isinstance(value, dict) and (value or name in sections()):
            _collect(source, value, origin, f"{name}.")
        else:
            source.problems.append(unknown(name, origin, names()))


def sections() -> list[str]:
    """Returns the names of the sections."""
    return [name for name, info in Settings.model_fields.items() if section(info)]
