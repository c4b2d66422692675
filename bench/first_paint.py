"""The dashboard is painted for the first time within 1 s in Chromium, with an hour of history behind it.

A sidecar is asked enough for all its numbers to be there; then an hour in which they grew to what they are is told to
the dashboard's own server. Each page is opened in a window that holds nothing yet. Beside the first contentful paint
(W3C Paint Timing) stands the time until all charts are drawn.
"""

from __future__ import annotations

import os
import shutil

from aiohttp import web
from playwright.async_api import async_playwright

from bench.harness import at_once, gets, graph, ids, median, run, show, sidecar, table, verdict
from proxy.core.observe.time_series import ROWS, STEP_S
from proxy.core.routing.admin_access import Guard
from proxy.shell.admin.app import admin
from proxy.shell.admin.dashboard import Dashboard
from proxy.shell.admin.event_stream import EventStream

PAGES = 7
DRAWN = """() => document.querySelectorAll('.line, .layer, rect.bar').length > 20
    && { painted: performance.getEntriesByName('first-contentful-paint')[0].startTime, drawn: performance.now() }"""


async def main():
    """Open the page again and again."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        print("  chromium is not installed, so nothing is measured (Debian: apt-get install chromium)")
        return
    clock = iter(range(0, 2 * ROWS * STEP_S, STEP_S))
    watch = EventStream(_hour(await _stats()), lambda: next(clock), "bench")
    for _ in range(ROWS):
        watch.sample()
    runner = web.AppRunner(admin([Dashboard(watch).rows()], Guard), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await _measure(program, f"http://127.0.0.1:{runner.addresses[0][1]}", watch)
    finally:
        await runner.cleanup()


async def _measure(program, url, watch):
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    os.sched_setaffinity(0, range(os.cpu_count()))  # a reader's browser has the whole machine
    seen = []
    async with watch.sampling(), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        for _ in range(PAGES):
            window = await browser.new_context()
            page = await window.new_page()
            await page.goto(url)
            seen.append(await (await page.wait_for_function(DRAWN)).json_value())
            await window.close()
        await browser.close()
    made = table("the dashboard with an hour of history", "median ms", "worst ms")
    for name, title in (("painted", "first contentful paint"), ("drawn", "all charts drawn")):
        made.add_row(title, *(f"{each([page[name] for page in seen]):.0f}" for each in (median, max)))
    show(made)
    painted = max(page["painted"] for page in seen)
    verdict("the dashboard's first paint", "<= 1000 ms", f"{painted:.0f} ms at worst", met=painted <= 1000)


async def _stats():
    """What a sidecar tells that has been asked something."""
    with graph(budget=100_000) as origin, sidecar(origin) as ours:
        for _ in range(2):
            await at_once(ours.url, gets(ours.url, ids(0, 2000)), callers=50)
        return ours.stats()


def _hour(stats):
    """Grow to *stats* within an hour, a step each time that somebody looks."""
    share = iter(range(1, ROWS + 1))

    def grown():
        part = next(share, ROWS) / ROWS
        ago = (1 - part) * ROWS * STEP_S
        return {**_scaled(stats, part), "now": stats["now"] - ago, "uptime_s": ROWS * STEP_S - ago}

    return grown


def _scaled(told, part):
    """*told* with every count as far as *part* of the way."""
    if isinstance(told, dict):
        return {name: _scaled(each, part) for name, each in told.items()}
    return int(told * part) if isinstance(told, int) else told


if __name__ == "__main__":
    run(main)
