"""Writes docs/settings.md and config/graph-sidecar.toml from the model of the settings; `make settings` runs it.

Both say what the model says: names, defaults, bounds, meanings, and which settings a reload changes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import platformdirs
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.settings import NAME, Address, RuleSettings, Settings, is_live, section
from proxy.settings.load import description_with_bounds, to_toml

ROOT = Path(__file__).parents[1]
PAGE, FILE = ROOT / "docs" / "settings.md", ROOT / "config" / "graph-sidecar.toml"

INTRODUCTION = """\
# Settings

<!-- `make settings` writes this page from proxy/settings: change the model, not the page. -->

Every setting has one name, and four places may give its value. The first that does wins:

| place | example |
|---|---|
| flag | `--set batch.window_ms=5` (also `--listen`, `--admin`, `--upstream`, `--cache-dir`, `--compare`) |
| environment variable | `GRAPH_SIDECAR_BATCH__WINDOW_MS=5` |
| file, named by `--config` or `GRAPH_SIDECAR_CONFIG` | `window_ms = 5` below `[batch]` |
| defaults of a package, in the file that `GRAPH_SIDECAR_DEFAULTS` names | the same |

[config/graph-sidecar.toml](../config/graph-sidecar.toml) has every setting at its default. An unknown name or a value
out of bounds ends the start with exit status 2 and one line for each problem. `graph-sidecar check` prints the settings
in force and where each comes from; `graph-sidecar serve --help` lists them all.

## Reload

`graph-sidecar reload`, SIGHUP and `POST /reload` read file, environment and flags again and drop no request. A reload
changes the settings marked *yes* below. It reports every other setting that differs as `needs_restart` and leaves it.
If one value is wrong, the reload changes nothing: each problem is in the answer (status 422) and in the log. A reload
also reads the content of `admin_token_file` again.

## Top level

These stand at the top of the file, before the first `[section]`.
"""

RULES = """
## rules

Each rule is a table `[[rules]]` at the end of the file. `path` is required; the first rule whose `path`, `fields` and
`version` match a read holds for that read. [config/rules](../config/rules) has two sets to begin with, and
[freshness.md](freshness.md) says what ends freshness whatever a rule says.
"""

SHIPPED = """\
# Every setting at its default. Copy what you change; what is left out keeps its default.
#
#   graph-sidecar serve --config graph-sidecar.toml        or GRAPH_SIDECAR_CONFIG=graph-sidecar.toml
#   graph-sidecar check --config graph-sidecar.toml        prints the settings in force, or every problem
#
# Environment variables beat this file, and flags beat both: window_ms below [batch] is also
# GRAPH_SIDECAR_BATCH__WINDOW_MS=5 and --set batch.window_ms=5. docs/settings.md lists what a reload changes.
"""

SHIPPED_RULES = """\
# In place of that line, write one table for each rule at the end of this file. Only path is required.
# config/rules/ has whole sets, for an ads dashboard and for an app that runs pages.
#
#   [[rules]]
#   path = "/act_*/insights"             # a glob over the path without its version; * also matches slashes
#   fields = ["impressions", "spend"]    # only reads that ask for no other fields than these
#   version = "v25.0"                    # only reads of this version
#   fresh_s = 300                        # this and the next three: as in [cache]
#   stale_if_error_s = 3600
#   stale_while_revalidate_s = 60
#   stretch_s = 3600
#   priority = 6                         # urgency of reads without a Priority field: 0 is first, 5 to 7 may wait
#   batch = false                        # sends these reads to Graph alone
#   cache = false                        # stores nothing of these reads
#   merge = true                         # as in [merge]
"""


def page() -> str:
    """Return docs/settings.md as the model says it."""
    parts = [INTRODUCTION, *_table("", _own(Settings))]
    for name, model in _sections():
        parts += [f"\n## {name}", f"\n{model.__doc__}\n", *_table(f"{name}.", _own(model))]
    return "\n".join([*parts, RULES, *_table("", RuleSettings.model_fields, of_rules=True)]) + "\n"


def shipped() -> str:
    """Return config/graph-sidecar.toml as the model says it."""
    parts = [SHIPPED, *_lines(_own(Settings))]
    for name, model in _sections():
        parts += [f"# {model.__doc__}\n[{name}]", *_lines(_own(model))]
    return "\n".join(parts).rstrip() + "\n"


def _own(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {name: info for name, info in model.model_fields.items() if not section(info)}


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    found = ((name, section(info)) for name, info in Settings.model_fields.items())
    return ((name, model) for name, model in found if model)


def _table(prefix: str, fields: Mapping[str, FieldInfo], *, of_rules: bool = False) -> Iterator[str]:
    yield "| key | values | meaning |" if of_rules else "| setting | default | values | reload | meaning |"
    yield "|---|---|---|" if of_rules else "|---|---|---|---|---|"
    for name, info in fields.items():
        whole = prefix + name
        cells = [_values(info)] if of_rules else [_shown_default(info), _values(info), "yes" if is_live(whole) else ""]
        yield " | ".join([f"| `{whole}`", *cells, f"{info.description} |"]).replace("|  |", "| |")


def _shown_default(info: FieldInfo) -> str:
    value = _default(info)
    if value in ("", ()):
        return "none"
    if isinstance(value, tuple) and len(value) > 1:
        return f"{len(value)} names, in [the file](../config/graph-sidecar.toml)"
    return f"`{_toml(value)}`"


def _values(info: FieldInfo) -> str:
    """What a setting takes, short enough for a cell."""
    arms = [arm for arm in get_args(info.annotation) if arm is not type(None)]
    kind: Any = arms[0] if arms and get_origin(info.annotation) not in {Literal, tuple} else info.annotation
    bounds = [f"{getattr(part, side):.15g}" for part in info.metadata for side in ("ge", "le") if hasattr(part, side)]
    if kind is bool:
        return "true, false"
    if kind in {int, float}:
        return f"{bounds[0]} to {bounds[1]}{', whole' if kind is int else ''}"
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    return {Address: "HOST:PORT", Path: "path"}.get(kind, "text")


def _lines(fields: Mapping[str, FieldInfo]) -> Iterable[str]:
    for name, info in fields.items():
        told = textwrap.fill(
            description_with_bounds(info), 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
        yield f"{told}\n{name} = {_toml(_default(info))}\n" + (SHIPPED_RULES if name == "rules" else "")


def _toml(value: object) -> str:
    """A value as TOML; a long list has one line for each item."""
    if isinstance(value, tuple) and len(value) > 2:
        return "[\n" + "".join(f"  {to_toml(item)},\n" for item in value) + "]"
    if value == ("any",):
        return to_toml("any")
    return to_toml(value)


def _default(info: FieldInfo) -> object:
    """The default of a setting, below `~` where it depends on the user."""
    value = info.get_default(call_default_factory=True)
    if not isinstance(value, Path):
        return value
    homes = {platformdirs.user_cache_path(NAME): "~/.cache", platformdirs.user_state_path(NAME): "~/.local/state"}
    above = next(folder for folder in homes if value.is_relative_to(folder))
    return str(Path(homes[above], NAME, value.relative_to(above)))


if __name__ == "__main__":
    PAGE.write_text(page())
    FILE.write_text(shipped())
