"""The operator's rules: how a read may be cached, batched, merged and prioritised, by its path and fields."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.core.memory.memo import MEMO_BYTES, Memo, memo
from proxy.core.model import Request
from proxy.core.routing.fields_param import field_names, fields_in

_VERSION_PREFIX = re.compile(r"/?v[0-9*]+\.[0-9*]+(/|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """The values that a rule sets for the reads that it matches; times in seconds."""

    fresh_s: float = 0
    stale_if_error_s: float = 0
    stale_while_revalidate_s: float = 0
    batch: bool = True
    cache: bool = True
    merge: bool = False
    stretch_s: float = 0  # fresh_s is stretched up to this as quota runs out
    priority: int | None = None  # the urgency of reads whose caller sends none (RFC 9218)

    @property
    def shared_s(self) -> float:
        """Seconds for which a stored answer can answer other reads."""
        return self.fresh_s if self.cache else 0


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One `[[rules]]` table: a glob for the unversioned path, the fields and version that it matches, and its rule."""

    path: str
    fields: frozenset[str]  # empty: any
    rule: Rule
    version: str = ""  # of the request; empty: any, and none


class RuleBook:
    """The rules in their order; the first that matches decides, and the default rule where none does."""

    def __init__(self, rules: Iterable[RuleMatch], default: Rule) -> None:
        """Compile the globs once, and remember the rules of recent reads."""
        self._rules = [(glob_pattern(match.path), match) for match in rules]
        self._default = default
        self._find = Memo(self._search) if self._rules else lambda *_read: default
        self._read = Memo(self._find_for_query)

    def replace(self, other: RuleBook) -> None:
        """Take over the rules of *other*."""
        self._rules, self._default = other._rules, other._default
        self._find, self._read = other._find, other._read

    def rule(self, path: str, fields: str, version: str = "") -> Rule:
        """Returns the rule for a read of *path* that asks for *fields* (in normal form) in *version*."""
        return self._find(path, fields, version)

    @property
    def longest_s(self) -> float:
        """Returns the longest time in seconds for which any rule lets an entry be used."""
        rules = (self._default, *(match.rule for _, match in self._rules))
        return max(rule.fresh_s + max(rule.stale_if_error_s, rule.stretch_s) for rule in rules)

    def of(self, request: Request) -> Rule:
        """Returns the rule for *request*."""
        if not self._rules:
            return self._default
        return self._read(request.path, request.query, request.version)

    def _find_for_query(self, path: str, query: str, version: str) -> Rule:
        return self._find(path, fields_in(query), version)

    def _search(self, path: str, fields: str, version: str) -> Rule:
        return self.match(path, frozenset(field_names(fields)), version)

    def match(self, path: str, asked: frozenset[str], version: str) -> Rule:
        """Returns the same as `of` without remembering it, for a read of *path* that asks for the fields *asked*."""
        for pattern, match in self._rules:
            if match.version not in {"", version} or not pattern.match(path):
                continue
            if not match.fields or (asked and asked <= match.fields):
                return match.rule
        return self._default


@memo()
def fields_asked(query: str) -> frozenset[str]:
    """Returns the names of the fields that a read with this *query* asks for."""
    return frozenset(field_names(fields_in(query)))


@memo()
def names_version(path: str) -> bool:
    """Returns whether the glob *path* begins with a version and so matches nothing: paths are compared without it."""
    return _VERSION_PREFIX.match(path) is not None


@memo(MEMO_BYTES // 2)
def glob_pattern(path: str) -> re.Pattern[str]:
    """Returns a pattern for a whole path from a shell glob with `*` and `?`; slashes at its ends do not matter."""
    return re.compile(fnmatch.translate(plain_glob(path)))


def plain_glob(path: str) -> str:
    """Returns the glob *path* with a slash at its start, unless it begins with a star, and none at its end."""
    plain = path.rstrip("/")
    return plain if plain.startswith(("/", "*")) else f"/{plain}"
