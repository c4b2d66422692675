"""Callers that do not trust the authority: the log tells of the first, as such programs retry and do not say why."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from tests.journeys.conftest import MakeScene
from tests.journeys.test_transparent import GRAPH, HEAD, PATH, READ, TO_HERE, secured
from tests.wires import Wire, calling

DISTRUST = "does not trust the sidecar's authority"


def blind() -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def by_an_alert(wire: Wire) -> None:
    """As OpenSSL's own programs do: curl, requests, PHP, Perl, Ruby."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname=GRAPH)
    has_ended = False
    while not has_ended:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await wire.send(outgoing.read())
            incoming.write(await wire.reader.read(65_536))
        except ssl.SSLCertVerificationError:
            await wire.send(outgoing.read())
            has_ended = True


async def in_the_handshake(wire: Wire) -> None:
    """As asyncio, Node and Java's HttpClient do: the connection ends where an alert would be."""
    with pytest.raises(ssl.SSLError):
        await wire.writer.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_hostname=GRAPH)


async def after_the_handshake(wire: Wire) -> None:
    """As Wget does with GnuTLS: it looks at the certificate when all is agreed on."""
    await wire.writer.start_tls(blind(), server_hostname=GRAPH)


async def before_it(wire: Wire) -> None:
    """As a probe of the port does, which asks for nothing."""


@pytest.mark.parametrize("is_connect", [True, False], ids=["connect", "listener"])
@pytest.mark.parametrize(
    "leave, told",
    [
        (by_an_alert, ["(alert unknown_ca)"]),
        (in_the_handshake, ["(it left right after the certificate)"]),
        (after_the_handshake, ["(it left without a request)"]),
        (before_it, []),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_the_first_caller_that_does_not_trust_is_told_of(
    scene: MakeScene,
    caplog: pytest.LogCaptureFixture,
    leave: Callable[[Wire], Awaitable[None]],
    told: list[str],
    *,
    is_connect: bool,
) -> None:
    """Whichever way a library breaks off, once; those that trust are served as before."""
    here = await scene({"intercept": TO_HERE})
    for _ in range(2):
        async with calling(here.front.url if is_connect else f"http://{here.front.tls}") as wire:
            if is_connect:
                await wire.send(HEAD.format(f"{GRAPH}:443"))
                await wire.head()
            await leave(wire)
    async with asyncio.timeout(20):
        while told and DISTRUST not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.001)
    async with calling(f"http://{here.front.tls}") as wire:
        await secured(wire)
        await wire.send(READ.format(PATH, GRAPH))
        assert (await wire.message()).status == 200
    lines = [record.getMessage() for record in caplog.records if DISTRUST in record.getMessage()]
    assert [how in line for how, line in zip(told, lines, strict=True)] == [True for _ in told]


async def test_who_is_idle_too_long_is_not_told_of(scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    """A pool that opens a connection ahead of its need: we end it, not the caller."""
    here = await scene({"intercept": TO_HERE, "listener": {"head_timeout_s": 0.1}})
    async with calling(f"http://{here.front.tls}") as wire:
        await secured(wire)
        await wire.ended()
    assert DISTRUST not in caplog.text
