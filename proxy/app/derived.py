"""What the settings come to, as the plain values that core and shell take."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from proxy.core.batching import Limits
from proxy.core.guarding import Guard
from proxy.core.intercepting import Gate
from proxy.core.pool import Stages
from proxy.core.reading import Hosts
from proxy.core.rules import Rule, RuleBook, RuleMatch
from proxy.settings import Settings
from proxy.shell.dialing import Lookup
from proxy.shell.patience import Patience
from proxy.shell.upstream import Way
from proxy.tokens import admin_token


def way(settings: Settings) -> Way:
    """How Graph is asked."""
    upstream, origin = settings.upstream, urlsplit(settings.upstream.origin)
    return Way(
        in_clear=frozenset({origin.netloc} if origin.scheme == "http" else ()),
        user_agent=upstream.user_agent,
        connect_timeout_s=upstream.connect_timeout_s,
        reply_timeout_s=upstream.reply_timeout_s,
        buffer_bytes=upstream.buffer_mb * 2**20,
        rest_s=upstream.rest_ms / 1000,
        lookup=Lookup(upstream.nameservers, upstream.address),
    )


def hosts(settings: Settings) -> Hosts:
    """The hosts of Graph that a message may ask for."""
    return Hosts(urlsplit(settings.upstream.origin).netloc, frozenset(settings.upstream.hosts))


def gate(settings: Settings) -> Gate:
    """What CONNECT may reach; an origin that is asked in clear cannot be spoken to through TLS."""
    origin = urlsplit(settings.upstream.origin)
    graph = {"graph.facebook.com", *settings.upstream.hosts}
    if origin.scheme == "https":
        graph.add(origin.netloc.removesuffix(":443"))
    return Gate(frozenset(graph), settings.intercept.tunnel, settings.listen.is_loopback)


def graph_hosts(settings: Settings) -> frozenset[str]:
    """The hosts that the sidecar speaks for where TLS ends here."""
    return gate(settings).names


def patience(settings: Settings) -> Patience:
    """What a caller's connection may take."""
    listener = settings.listener
    return Patience(
        listener.head_timeout_s,
        listener.stall_timeout_s,
        listener.idle_timeout_s,
        listener.connections,
        listener.buffer_mb * 2**20,
    )


def limits(settings: Settings) -> Limits:
    """How large batches are and how long a read waits for one."""
    batch = settings.batch
    by_token = batch.group == "token"
    return Limits(batch.slots, batch.window_ms / 1000, batch.in_flight, batch.queue, by_token, batch.queue_s)


def stages(settings: Settings) -> Stages:
    """From which usage on calls are spared, and how."""
    return Stages(**settings.quota.model_dump(exclude={"group"}))


def rules_of(settings: Settings) -> RuleBook:
    """The rules, and what holds where none matches."""
    cache = settings.cache
    default = Rule(
        cache.fresh_s,
        cache.stale_if_error_s,
        cache.stale_while_revalidate_s,
        batch=settings.batch.enabled,
        merge=settings.merge.enabled,
        stretch_s=cache.stretch_s,
    )
    matches = []
    for table in settings.rules:
        given = table.model_dump(exclude={"path", "fields", "version", "batch"}, exclude_none=True)
        rule = replace(default, **given, batch=table.batch and default.batch)
        matches.append(RuleMatch(table.path, frozenset(table.fields), rule, table.version))
    return RuleBook(matches, default)


def guard(settings: Settings) -> Guard:
    """Who may come to our own paths. Raises SettingsError for a token file that cannot be used."""
    return Guard(frozenset({*settings.admin_hosts, settings.admin.host}), admin_token(settings))
