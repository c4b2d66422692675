"""The environment variables that name the proxy for a program, and the hosts that it calls without the proxy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from proxy.core.routing.connect_policy import split_authority

_PROXIES = ("HTTPS_PROXY", "https_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_HEED_THEM = {"NODE_USE_ENV_PROXY": "1", "PERL_LWP_ENV_PROXY": "1"}
"""The variables that make libraries read them at all: Node 22.21, 24 and later in fetch, http, https; Perl's LWP."""
_LOCAL = ("localhost", "127.0.0.1")
_JAVA_PROXY = re.compile(r"-Dhttps\.proxyHost=")
_JAVA_EXCEPTIONS = re.compile(r"-Dhttp\.nonProxyHosts=(\S+)")


def proxies(proxy: str, names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that route a program's TLS calls to *names* through *proxy*.

    `HTTP_PROXY` is left alone: calls in clear to other hosts are none of ours.
    """
    without = ",".join(exceptions(environ, frozenset(names)))
    return {**dict.fromkeys(_PROXIES, proxy), **dict.fromkeys(_EXCEPTIONS, without), **_HEED_THEM}


def java_options(proxy: str, names: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Returns the same as options for Java, which reads none of these variables."""
    host, port = split_authority(proxy.removeprefix("http://"), 0)
    ours = (each for name in exceptions(environ, frozenset(names)) for each in _java(name))
    without = "|".join(dict.fromkeys([*_javas_own(environ, frozenset(names)), *ours]))
    return [f"-Dhttps.proxyHost={host}", f"-Dhttps.proxyPort={port}", f"-Dhttp.nonProxyHosts={without}"]


def _javas_own(environ: Mapping[str, str], names: frozenset[str]) -> list[str]:
    """Returns the user's own exceptions for Java, without those that cover Graph's hosts."""
    given = "|".join(_JAVA_EXCEPTIONS.findall(environ.get("JAVA_TOOL_OPTIONS", ""))).replace('"', "").replace("'", "")
    return [each for each in given.split("|") if each and not any(fnmatchcase(name, each.lower()) for name in names)]


def _java(exception: str) -> list[str]:
    """Returns Java's patterns for a host and its subdomains; for this machine Java's default patterns."""
    if exception in _LOCAL:
        return ["localhost", "127.*", "[::1]"]
    host = exception.removeprefix("*").removeprefix(".")
    return [host, f"*.{host}"]


def replaced(environ: Mapping[str, str]) -> list[str]:
    """Returns the variables of *environ* that name another proxy, which will not be used."""
    java = ["JAVA_TOOL_OPTIONS"] if _JAVA_PROXY.search(environ.get("JAVA_TOOL_OPTIONS", "")) else []
    return [*(name for name in _PROXIES if environ.get(name)), *java]


def exceptions(environ: Mapping[str, str], names: frozenset[str]) -> list[str]:
    """Returns the hosts that are called without a proxy: those of *environ*, without Graph's."""
    given = ",".join(environ.get(name, "") for name in _EXCEPTIONS).split(",")
    kept = [each.strip() for each in given if each.strip() and not any(_covers(each, name) for name in names)]
    return list(dict.fromkeys([*kept, *_LOCAL]))


def _covers(exception: str, name: str) -> bool:
    suffix = exception.strip().lower().removeprefix("*").removeprefix(".")
    host = split_authority(suffix, 443)[0] or suffix
    return not host or name == host or name.endswith(f".{host}")
