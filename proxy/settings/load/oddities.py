"""Finds settings that are allowed but probably a mistake: each line has the name, the value, and a better one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from urllib.parse import urlsplit

from proxy.core.routing.rules import Rule, RuleMatch
from proxy.core.routing.shadowing import shadowed
from proxy.settings import Settings
from proxy.settings.load.toml import to_toml

_GRAPH_DOMAINS = (".facebook.com", ".instagram.com", ".threads.net", ".threads.com")
_TIMES = ("fresh_s", "stale_if_error_s", "stale_while_revalidate_s", "stretch_s")


def oddities(settings: Settings) -> list[str]:
    """Returns one line for each thing in *settings* that is allowed and hardly meant."""
    found = chain(_shadowed(settings), _stretch(settings), _unstored(settings), _in_clear(settings))
    return [*found, *_webhooks(settings), *_open_admin(settings), *_unlogged(settings)]


def _shadowed(settings: Settings) -> Iterator[str]:
    rules = [RuleMatch(rule.path, frozenset(rule.fields), Rule(), rule.version) for rule in settings.rules]
    for place, earlier in shadowed(rules):
        hiding = f"rules[{earlier}].path = {to_toml(rules[earlier].path)}"
        yield (
            f"rules[{place}].path = {to_toml(rules[place].path)}: never applies, since {hiding} comes first and matches"
            " all of its reads; better: put the narrower rule first"
        )


def _stretch(settings: Settings) -> Iterator[str]:
    """Yields the values of `stretch_s` that can never lengthen anything."""
    cache = settings.cache
    if 0 < cache.stretch_s < cache.fresh_s:
        yield _never_stretches("cache.stretch_s", cache.stretch_s, f"cache.fresh_s = {to_toml(cache.fresh_s)}")
    for place, rule in enumerate(settings.rules):
        fresh_s, name = (cache.fresh_s, "cache") if rule.fresh_s is None else (rule.fresh_s, f"rules[{place}]")
        if 0 < (rule.stretch_s or 0) < fresh_s:
            yield _never_stretches(f"rules[{place}].stretch_s", rule.stretch_s, f"{name}.fresh_s = {to_toml(fresh_s)}")


def _never_stretches(name: str, value: object, fresh: str) -> str:
    return f"{name} = {to_toml(value)}: lies below {fresh}, so freshness never grows; better: more than that, or 0"


def _unstored(settings: Settings) -> Iterator[str]:
    for place, rule in enumerate(settings.rules):
        given = [key for key in _TIMES if getattr(rule, key)]
        if given and not rule.cache:
            key = given[0]
            yield (
                f"rules[{place}].{key} = {to_toml(getattr(rule, key))}: does nothing beside cache = false, which stores"
                " nothing; better: leave out one of the two"
            )


def _in_clear(settings: Settings) -> Iterator[str]:
    origin = urlsplit(settings.upstream.origin)
    if origin.scheme == "http" and f".{origin.hostname}".endswith(_GRAPH_DOMAINS):
        yield (
            f"upstream.origin = {to_toml(settings.upstream.origin)}: sends tokens unencrypted to a host of Graph;"
            f" better: https://{origin.hostname}"
        )


def _webhooks(settings: Settings) -> Iterator[str]:
    """Yields settings of webhooks that need another one."""
    webhooks = settings.webhooks
    has_secret, has_token = bool(webhooks.secret_file), bool(webhooks.verify_token_file)
    if webhooks.listen and not has_secret and not has_token:
        yield (
            f"webhooks.listen = {to_toml(webhooks.listen)}: answers nothing without webhooks.secret_file and"
            " webhooks.verify_token_file; better: set both"
        )
    elif has_token and not has_secret:
        yield (
            f"webhooks.verify_token_file = {to_toml(webhooks.verify_token_file)}: Meta can subscribe, but without"
            " webhooks.secret_file no notification is accepted; better: set both"
        )
    if webhooks.extend_s and not has_secret:
        yield (
            f"webhooks.extend_s = {to_toml(webhooks.extend_s)}: extends nothing, since without webhooks.secret_file no"
            " notification is accepted; better: set it, or 0"
        )


def _open_admin(settings: Settings) -> Iterator[str]:
    if not settings.admin.is_loopback and not settings.admin_token_file:
        yield (
            f"admin = {to_toml(settings.admin)}: is open to others without admin_token_file: they may read counts, and"
            " nothing else; better: set admin_token_file"
        )


def _unlogged(settings: Settings) -> Iterator[str]:
    log = settings.log
    if log.sample < 1 and not log.replies:
        yield (
            f"log.sample = {to_toml(log.sample)}: does nothing beside log.replies = false, which logs no reply; better:"
            " leave out one of the two"
        )
