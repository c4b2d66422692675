"""What `doctor` looks at before it asks Graph: folders, DNS and TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from typing import NamedTuple

from proxy.app import preflight
from proxy.commands.doctor.asking import Over
from proxy.core.graph.doctor.answers import Finding, Verdict
from proxy.settings import Settings
from proxy.shell.upstream.client import UpstreamOptions
from proxy.shell.upstream.connector import resolver

_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Place(NamedTuple):
    """Where Graph is asked."""

    host: str
    port: int
    is_tls: bool


def folders(settings: Settings) -> Finding:
    """Whether the folders and files that the settings name can be used."""
    found = preflight.files(settings) or preflight.warnings(settings)
    detail = f"cannot be used: {len(found)}" if found else "they can"
    verdict = Verdict.DIFFERS if found else Verdict.HOLDS
    then = "does not start, or holds entries in memory alone" if found else "starts"
    names = ("cache.dir", "cache.key_file")
    return Finding("folders", "folders and files can be used", verdict, detail, then, names, tuple(found))


async def dns(place: Place, way: UpstreamOptions) -> tuple[Finding, list[str]]:
    """Whether the name of Graph's host leads to addresses of its own, and which."""
    names = ("upstream.nameservers", "upstream.address")
    says = "Graph's name leads to public addresses"
    finder = resolver(way.lookup)
    try:
        async with asyncio.timeout(way.connect_timeout_s):
            found = [each["host"] for each in await finder.resolve(place.host, place.port, socket.AF_UNSPEC)]
    except (OSError, TimeoutError) as error:
        detail = "the name cannot be resolved" + _beside_a_proxy()
        failed = Finding("dns", says, Verdict.FAILED, detail, "no call can be made", names, (f"{place.host}: {error}",))
        raise Unable(failed, detail) from None
    finally:
        await finder.close()
    odd = [address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_global]
    detail = f"addresses: {len(found)}" + (f", of them private: {len(odd)}" if odd else "")
    then = "a hosts file, a proxy or an offline Graph answers" if odd else "calls go to Graph itself"
    verdict = Verdict.DIFFERS if odd and not _is_number(place.host) else Verdict.HOLDS
    return Finding("dns", says, verdict, detail, then, names, tuple(found)), found


async def tls(place: Place, way: UpstreamOptions, addresses: list[str]) -> Finding:
    """Whether what answers there shows a certificate that is trusted here. Raises Unable."""
    says = "the way to Graph is open, and its certificate is trusted"
    if not place.is_tls:
        return Finding("tls", says, Verdict.SKIPPED, "upstream.origin is http", "", ("upstream.origin",))
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = place.port
    detail = "no address answers"
    for address in addresses:
        try:
            async with asyncio.timeout(way.connect_timeout_s):
                _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=place.host)
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.partition(",")[0]  # what follows may name the host
            detail = f"its certificate is not trusted ({why}): a proxy that opens TLS stands between?"
        except (OSError, TimeoutError, ssl.SSLError) as error:
            detail = f"no address answers ({type(error).__name__}){_beside_a_proxy()}"
        else:
            spoken: ssl.SSLObject = writer.get_extra_info("ssl_object")
            text = (
                f"{spoken.version()}; of h2 and http/1.1 it would take {spoken.selected_alpn_protocol() or 'neither'}"
            )
            writer.close()
            return Finding("tls", says, Verdict.HOLDS, text, "calls go through TLS, in HTTP/1.1", ("upstream.origin",))
    failed = Finding("tls", says, Verdict.FAILED, detail, "no call can be made", ("upstream.origin",))
    raise Unable(failed, detail)


class Unable(Over):
    """No call can be made; holds the finding that says so."""

    def __init__(self, finding: Finding, why: str) -> None:
        """Hold *finding*."""
        super().__init__(why)
        self.finding = finding


def _is_number(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _beside_a_proxy() -> str:
    """What to say besides where a proxy is set for programs here."""
    named = next((name for name in _PROXIES if os.environ.get(name)), "")
    return f"; {named} is set here, and the sidecar uses no proxy" if named else ""
