"""Docstrings that name another file or function name one that exists, and the file of a rule names who applies it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import proxy

HOUSE = Path(proxy.__file__).parent
TEXTS = {file.relative_to(HOUSE).with_suffix("").as_posix(): file.read_text() for file in sorted(HOUSE.rglob("*.py"))}
FOLDERS = {folder.relative_to(HOUSE).as_posix() for folder in HOUSE.rglob("*") if folder.is_dir()}

POINTER = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+)(?:\.([A-Za-z_]+)[^`]*)?`")
NO_FILES = {"text/javascript", "account/ads_insights"}
"""What looks like a file and is none: a media type, and the label of a limit."""

RULES = {
    "when a batch leaves": "core/batch/window",
    "which reads have one cache key": "core/cache/key",
    "a 304 without an ETag": "core/cache/policy",
    "a write ends the freshness of lists": "core/cache/invalidation",
    "links that expire": "core/cache/signed_links",
    "Retry-After of throttles": "core/quota/retry_after",
    "usage headers": "core/quota/usage_headers",
    "throttle codes": "core/graph/throttles",
    "JSONP": "core/graph/jsonp",
    "paging links": "core/graph/paging",
    "a null slot": "core/batch/response",
    "a batch of more than 50": "core/client_batch/split",
    "references": "core/client_batch/references",
    "shutdown": "app/drain",
    "CONNECT": "core/routing/connect_policy",
    "the access log": "core/observe/access_log",
    "metrics": "shell/observe/prometheus",
    "sealing": "core/cache/encryption",
    "a corrupt database": "shell/store/corruption",
    "?ids=": "core/merge/ids_split",
    "dropped header fields": "core/http/headers",
}
"""The rules that a reader looks for by the name of a file."""


@cache
def imported(text: str) -> set[str]:
    """The modules of ours that *text* imports, as paths."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("proxy."):
            module = str(node.module).removeprefix("proxy.").replace(".", "/")
            found |= {module, *(f"{module}/{alias.name}" for alias in node.names)}
    return found


def defines(text: str, name: str) -> bool:
    """Whether *text* has a function, a class or a value with *name*."""
    return re.search(rf"^\s*(?:(?:async )?def |class )?{name}\b(?=[(:\[ ])", text, re.MULTILINE) is not None


def pointers() -> Iterator[tuple[str, str, str]]:
    """Where a file is named, that file, and the name that it should define, "" for none."""
    for place, text in TEXTS.items():
        for path, name in POINTER.findall(text):
            if path not in NO_FILES:
                yield place, path, name


def test_what_is_named_exists() -> None:
    """A pointer in a docstring or comment leads to a file or folder, and to a name that the file has."""
    wrong = []
    for place, path, name in pointers():
        files = [text for file, text in TEXTS.items() if f"/{file}".endswith(f"/{path.removeprefix('proxy/')}")]
        is_folder = any(f"/{folder}".endswith(f"/{path}") for folder in FOLDERS)
        if not (is_folder or files) or (name and name != "py" and not any(defines(text, name) for text in files)):
            wrong.append((place, path, name))
    assert wrong == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_rule_says_who_applies_it(rule: str) -> None:
    """The file of a rule names one of the modules that import it, and every one of the fast path."""
    users = [file for file, text in TEXTS.items() if rule in imported(text)]
    named = {file for file in users if re.search(rf"\b{file.rpartition('/')[2]}\b", TEXTS[rule])}
    assert named or not users
    assert [file for file in users if "/fast_" in file and file not in named] == []
