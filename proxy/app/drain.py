"""The graceful end of a sidecar at SIGTERM, SIGINT and `POST /quit`: what happens, in this order.

1. `end_on_signals` sets *ending* (the admin listener's `/quit` does the same); `process` logs it and tells systemd.
2. `/readyz` answers 503, so that Kubernetes sends no new connections.
3. `announce_end`: for `drain_grace_s`, requests are answered as before, each reply with `Connection: close`.
4. The TLS listener stops accepting (`sidecar._open_tls_listener`).
5. `drain_callers`: the listener of applications stops accepting. Requests in flight and tunnels get `drain_s`. Requests
   are then answered 503 if their response has not begun (`shell/http/listener_drain`), callers of the fast path too;
   tunnels are closed (`ConnectHandler.drain`).
6. The webhooks listener stops accepting, if it has an address of its own (`app/admin`).
7. The layers and the connections to Graph are closed (`pipeline.build`), and at last the store (`components`): the
   order reverse to `sidecar`.
8. The admin listener closes last: once it no longer answers, everything is written.

A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web

from proxy.app.pipeline import Pipeline
from proxy.app.reload import Reloader
from proxy.shell.http.listener_drain import drain


def end_on_signals() -> asyncio.Event:
    """Returns the event that SIGTERM and SIGINT set; a second signal cancels this task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ending = asyncio.Event()

    def on_signal() -> None:
        if ending.is_set() and task is not None:
            task.cancel()
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return ending


async def announce_end(pipeline: Pipeline, live: Reloader) -> None:
    """Answer requests for `drain_grace_s` more, each reply with `Connection: close`, so that clients leave."""
    pipeline.inside.begin_drain()
    await asyncio.sleep(live.settings.drain_grace_s)


async def drain_callers(runner: web.ServerRunner, pipeline: Pipeline, live: Reloader) -> None:
    """Wait until the requests in flight and the tunnels have ended, for `drain_s` at most."""
    seconds = live.settings.drain_s
    await asyncio.gather(drain(runner, seconds, pipeline.inside), pipeline.intercept.drain(seconds))
