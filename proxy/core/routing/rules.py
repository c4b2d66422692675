"""The operator's rules: what may be done with a read, by its path and fields."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.core.memory.memo import Memo, memo
from proxy.core.model import Request
from proxy.core.routing.fields_param import field_names, fields_in

_VERSION = re.compile(r"/?v[0-9*]+\.[0-9*]+(/|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done with the reads that a rule matches; times in seconds."""

    fresh_s: float = 0
    stale_if_error_s: float = 0
    stale_while_revalidate_s: float = 0
    batch: bool = True
    cache: bool = True
    merge: bool = False
    stretch_s: float = 0  # up to which fresh_s is stretched as quota runs out
    priority: int | None = None  # the urgency of reads that name none (RFC 9218)

    @property
    def shared_s(self) -> float:
        """Seconds for which an answer can answer other reads."""
        return self.fresh_s if self.cache else 0


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One `[[rules]]` table: a glob over the unversioned path, the fields and version it is for, and what it sets."""

    path: str
    fields: frozenset[str]  # empty: any
    rule: Rule
    version: str = ""  # as it is asked for; empty: any, and none


class RuleBook:
    """The rules in their order; the first that matches wins, the defaults hold where none does."""

    def __init__(self, rules: Iterable[RuleMatch], default: Rule) -> None:
        """Compile the globs once; remember what recent reads came to."""
        self._rules = [(glob_pattern(match.path), match) for match in rules]
        self._default = default
        self._find = Memo(self._search) if self._rules else lambda *_read: default
        self._read = Memo(self._look)

    def replace(self, other: RuleBook) -> None:
        """From now on say what *other* says."""
        self._rules, self._default = other._rules, other._default
        self._find, self._read = other._find, other._read

    def rule(self, path: str, fields: str, version: str = "") -> Rule:
        """The rule for a read of *path* that asks for *fields* (its normal form) in *version*."""
        return self._find(path, fields, version)

    @property
    def longest_s(self) -> float:
        """Seconds for which something may be of use at most."""
        rules = (self._default, *(match.rule for _, match in self._rules))
        return max(rule.fresh_s + max(rule.stale_if_error_s, rule.stretch_s) for rule in rules)

    def of(self, request: Request) -> Rule:
        """The rule for *request*."""
        if not self._rules:
            return self._default
        return self._read(request.path, request.query, request.version)

    def _look(self, path: str, query: str, version: str) -> Rule:
        return self._find(path, fields_in(query), version)

    def _search(self, path: str, fields: str, version: str) -> Rule:
        asked = set(field_names(fields))
        for pattern, match in self._rules:
            if match.version not in {"", version} or not pattern.match(path):
                continue
            if not match.fields or (asked and asked <= match.fields):
                return match.rule
        return self._default


@memo()
def names_version(path: str) -> bool:
    """Whether the glob *path* begins with a version of Graph's, and so matches nothing: paths are looked at without."""
    return _VERSION.match(path) is not None


@memo()
def glob_pattern(path: str) -> re.Pattern[str]:
    """`*` and `?` as a shell has them, over the whole path; slashes at its ends say nothing."""
    plain = path.rstrip("/")
    return re.compile(fnmatch.translate(plain if plain.startswith(("/", "*")) else f"/{plain}"))
