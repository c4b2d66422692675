"""Checks this machine before `doctor` asks Graph: folders, DNS and TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from typing import NamedTuple

from proxy.app import preflight
from proxy.commands.doctor.graph_client import Stopped
from proxy.core.graph.doctor.answers import Finding, Verdict
from proxy.settings import Settings
from proxy.shell.upstream.client import UpstreamOptions
from proxy.shell.upstream.connector import resolver

_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Endpoint(NamedTuple):
    """Graph's host and port, and whether it is reached by TLS."""

    host: str
    port: int
    is_tls: bool


def folders(settings: Settings) -> Finding:
    """Returns whether the folders and files that the settings name can be used."""
    found = preflight.files(settings) or preflight.warnings(settings)
    detail = f"cannot be used: {len(found)}" if found else "all can be used"
    verdict = Verdict.DIFFERS if found else Verdict.HOLDS
    then = "does not start, or keeps entries in memory only" if found else "starts"
    names = ("cache.dir", "cache.key_file")
    return Finding("folders", "folders and files can be used", verdict, detail, then, names, tuple(found))


async def dns(endpoint: Endpoint, upstream: UpstreamOptions) -> tuple[Finding, list[str]]:
    """Returns whether the name of Graph's host has public addresses, and the addresses. Raises Unreachable."""
    names = ("upstream.nameservers", "upstream.address")
    says = "the name of Graph's host has public addresses"
    finder = resolver(upstream.lookup)
    try:
        async with asyncio.timeout(upstream.connect_timeout_s):
            found = [each["host"] for each in await finder.resolve(endpoint.host, endpoint.port, socket.AF_UNSPEC)]
    except (OSError, TimeoutError) as error:
        detail = "the name cannot be resolved" + _proxy_hint()
        failed = Finding(
            "dns", says, Verdict.FAILED, detail, "no call can be made", names, (f"{endpoint.host}: {error}",)
        )
        raise CannotConnect(failed, detail) from None
    finally:
        await finder.close()
    odd = [address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_global]
    detail = f"addresses: {len(found)}" + (f", of them private: {len(odd)}" if odd else "")
    then = "calls go to a hosts file's address, a proxy or an offline Graph" if odd else "calls go to Graph itself"
    verdict = Verdict.DIFFERS if odd and not _is_number(endpoint.host) else Verdict.HOLDS
    return Finding("dns", says, verdict, detail, then, names, tuple(found)), found


async def tls(endpoint: Endpoint, upstream: UpstreamOptions, addresses: list[str]) -> Finding:
    """Returns whether the server at *addresses* shows a certificate that is trusted here. Raises Unreachable."""
    says = "Graph can be reached, and its certificate is trusted"
    if not endpoint.is_tls:
        return Finding("tls", says, Verdict.SKIPPED, "upstream.origin is http", "", ("upstream.origin",))
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = endpoint.port
    detail = "no address answers"
    for address in addresses:
        try:
            async with asyncio.timeout(upstream.connect_timeout_s):
                _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=endpoint.host)
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.partition(",")[0]  # what follows may name the host
            detail = f"its certificate is not trusted ({why}): is there a proxy that decrypts TLS?"
        except (OSError, TimeoutError, ssl.SSLError) as error:
            detail = f"no address answers ({type(error).__name__}){_proxy_hint()}"
        else:
            tls_object: ssl.SSLObject = writer.get_extra_info("ssl_object")
            text = (
                f"{tls_object.version()}; "
                f"of h2 and http/1.1 it would take {tls_object.selected_alpn_protocol() or 'neither'}"
            )
            writer.close()
            return Finding("tls", says, Verdict.HOLDS, text, "calls go through TLS, in HTTP/1.1", ("upstream.origin",))
    failed = Finding("tls", says, Verdict.FAILED, detail, "no call can be made", ("upstream.origin",))
    raise CannotConnect(failed, detail)


class CannotConnect(Stopped):
    """No call can be made; *finding* says why."""

    def __init__(self, finding: Finding, why: str) -> None:
        """Take *finding*, and *why* as text."""
        super().__init__(why)
        self.finding = finding


def _is_number(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _proxy_hint() -> str:
    """Returns what to add to an error if a proxy is set for programs here."""
    named = next((name for name in _PROXIES if os.environ.get(name)), "")
    return f"; {named} is set here, and the sidecar uses no proxy" if named else ""
