"""Converts settings into the plain values that core and shell take."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from proxy.app.token_files import admin_token
from proxy.core.batch.window import Limits
from proxy.core.quota.bucket import Stages
from proxy.core.routing.admin_access import Guard
from proxy.core.routing.connect_policy import ConnectPolicy
from proxy.core.routing.hosts import GraphHosts
from proxy.core.routing.rules import Rule, RuleBook, RuleMatch
from proxy.settings import Settings
from proxy.shell.http.timeouts import Timeouts
from proxy.shell.upstream.client import UpstreamOptions
from proxy.shell.upstream.connector import Lookup


def upstream_options(settings: Settings) -> UpstreamOptions:
    """Returns how calls to Graph are made."""
    upstream, origin = settings.upstream, urlsplit(settings.upstream.origin)
    return UpstreamOptions(
        in_clear=frozenset({origin.netloc} if origin.scheme == "http" else ()),
        user_agent=upstream.user_agent,
        connect_timeout_s=upstream.connect_timeout_s,
        reply_timeout_s=upstream.reply_timeout_s,
        buffer_bytes=upstream.buffered_mb * 2**20,
        rest_s=upstream.rest_ms / 1000,
        lookup=Lookup(upstream.nameservers, upstream.address),
    )


def hosts(settings: Settings) -> GraphHosts:
    """Returns the hosts of Graph that a message may be for."""
    return GraphHosts(urlsplit(settings.upstream.origin).netloc, frozenset(settings.upstream.hosts))


def connect_policy(settings: Settings) -> ConnectPolicy:
    """Returns what CONNECT may reach; an origin with `http://` is left out, for its TLS could not be terminated."""
    origin = urlsplit(settings.upstream.origin)
    graph = {"graph.facebook.com", *settings.upstream.hosts}
    if origin.scheme == "https":
        graph.add(origin.netloc.removesuffix(":443"))
    return ConnectPolicy(frozenset(graph), settings.intercept.tunnel, settings.listen.is_loopback)


def graph_hosts(settings: Settings) -> frozenset[str]:
    """Returns the hosts that the sidecar has certificates for."""
    return connect_policy(settings).host_names


def timeouts(settings: Settings) -> Timeouts:
    """Returns the time limits and bounds of callers' connections."""
    listener = settings.listener
    return Timeouts(
        listener.head_timeout_s,
        listener.stall_timeout_s,
        listener.idle_timeout_s,
        listener.connections,
        listener.buffer_mb * 2**20,
    )


def limits(settings: Settings) -> Limits:
    """Returns the limits of batches."""
    batch = settings.batch
    by_token = batch.group == "token"
    answer_bytes = settings.upstream.buffered_mb * 2**20
    return Limits(
        batch.slots,
        batch.window_ms / 1000,
        batch.in_flight,
        batch.queue,
        by_token,
        batch.queue_s,
        batch.lanes,
        answer_bytes,
    )


def stages(settings: Settings) -> Stages:
    """Returns the thresholds of the rate limiter."""
    return Stages(**settings.quota.model_dump(exclude={"group"}))


def rules_of(settings: Settings) -> RuleBook:
    """Returns the rules and the default rule."""
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
    """Returns the access settings of the admin listener. Raises SettingsError for an unusable token file."""
    return Guard(frozenset({*settings.admin_hosts, settings.admin.host}), admin_token(settings))
