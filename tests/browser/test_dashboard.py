"""The dashboard in a real browser: its numbers, its life, and whether everybody can use it."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import PATIENCE_MS, Look
from tests.browser.staging import NO_READS, Board, Real
from tests.told import STATS

pytestmark = pytest.mark.asyncio(loop_scope="session")
expect.set_options(timeout=PATIENCE_MS)

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NARROW = {"width": 360, "height": 740}


async def live(page: Page) -> Page:
    """*page*, once it shows numbers."""
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    await expect(page.locator("#calls-total")).to_have_attribute("value", re.compile(r"\d+"))
    return page


async def value(page: Page, name: str) -> float:
    """The number that a place of the page stands for."""
    return float(await page.locator(f"#{name}").get_attribute("value") or "nan")


# --- a real sidecar


async def test_its_numbers_are_those_of_stats(look: Look, sidecar: Real) -> None:
    """Savings, modes and routes on the page are what /stats says, when the traffic has ended."""
    for _ in range(3):
        await sidecar.read("/me/adaccounts", *(f"/{number}" for number in range(100, 120)))
    await sidecar.read("/1/picture")
    told = await sidecar.stats()
    page = await live(await look(sidecar.url))
    for name, number in {
        "calls": sum(told["calls_avoided"].values()),
        "bytes": told["bytes_avoided"],
        "trips": told["round_trips_avoided"],
    }.items():
        assert number > 0
        await expect(page.locator(f"#{name}-total")).to_have_attribute("value", str(number))
        await expect(page.locator(f"#{name}-window")).to_have_attribute("value", str(number))
    for mode, number in told["outcomes"].items():
        await expect(page.locator(f"[data-mode={mode}] data")).to_have_attribute("value", str(number))
    rows = await page.locator("#costs tbody tr").all_inner_texts()
    assert [tuple(row.split("\t")[:4]) for row in rows] == [
        (route["route"], f"{route['asked']:,}", f"{route['counted']:,}", f"{route['avoided']:,}")
        for route in told["routes"]
    ]


async def test_traffic_shows_while_it_is_looked_at(look: Look, sidecar: Real) -> None:
    """At first it says what to try, with the address of this very sidecar; then the numbers move by themselves."""
    page = await live(await look(sidecar.url))
    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#try")).to_contain_text(f"curl '{sidecar.front.url}/v25.0/me")
    await sidecar.read(*(f"/{number}" for number in range(100, 110)))
    await expect(page.locator("[data-mode=MISS] data")).to_have_attribute("value", "10")
    await expect(page.locator("#empty")).to_be_hidden()
    await expect(page.get_by_role("meter").first).to_have_attribute("aria-valuetext", re.compile("1 %, calm"))


# --- numbers that the test writes


async def test_comparisons_show_where_some_are_made(look: Look, board: Board) -> None:
    """The card is there once a share is set, with the differences by kind; without one it is not."""
    page = await live(await look(board.url))
    card = page.locator("#facts article", has_text="Compared with Graph")
    await expect(card).to_have_count(0)
    board.tell(compare={"percent": 5, "reads": 200, "same": 197, "status": 1, "json": 2, "headers": 0, "aged": 0})
    await expect(card).to_contain_text("Of the reads5 %Compared200The same197Another status1Other JSON2")


async def test_each_saving_has_its_own_place_and_unit(look: Look, board: Board) -> None:
    """Three numbers, three units, three curves, and a sentence each; nowhere their sum."""
    page = await live(await look(board.url))
    calls = {**STATS["calls_avoided"], "fresh": 1000}
    board.tell(calls_avoided=calls, bytes_avoided=90_000_000, round_trips_avoided=2000)
    await expect(page.locator("#calls-window")).to_have_text("960")
    await expect(page.locator("#bytes-window")).to_have_text("44.4 MB")
    await expect(page.locator("#trips-window")).to_have_text("1,080")
    for name in ("calls", "bytes", "trips"):
        await expect(page.locator(f"#{name}-chart path.line")).not_to_have_count(0)
        await expect(page.locator(f".card.{name} .meaning")).to_contain_text(re.compile("Graph|Meta"))


async def test_refusals_given_again_are_errors_and_no_savings(look: Look, board: Board) -> None:
    """They have a row of their own and a part of the error rate, and the calls avoided leave them out."""
    page = await live(await look(board.url))
    row = page.locator("[data-mode=REFUSED]")
    await expect(row.locator("data")).to_have_text("3")
    before = await page.locator("#calls-total").get_attribute("value")
    board.tell(
        calls_avoided={**STATS["calls_avoided"], "refused": 900},
        outcomes={**STATS["outcomes"], "REFUSED": 900},
        error_replies={**STATS["error_replies"], "refused": 900},
        errors=[{**STATS["errors"][0], "mode": "REUSED", "status": 400, "code": 4, "what": "throttled"}],
    )
    await expect(row.locator("data")).to_have_text("900")
    await expect(page.locator("#errors-rate")).to_have_text(re.compile("^Errors: .* % of replies .*refused again here"))
    await expect(page.locator("#calls-total")).to_have_attribute("value", str(before))
    await expect(page.locator("#errors tbody tr")).to_have_text(re.compile("1REFUSED4004limit reached"))


async def test_pools_errors_and_costs_are_listed(look: Look, board: Board) -> None:
    """The most used pool first with its regain time; errors with their codes; routes, apps and accounts to sort."""
    page = await live(await look(board.url))
    pools = page.locator("#gauges li")
    await expect(pools).to_have_text([re.compile(r"act_1.*100 %.*stop.*regains in 21 min"), re.compile("9f3c.*41 %")])
    await expect(pools.first.get_by_role("meter")).to_have_attribute("aria-valuenow", "100")
    await expect(page.locator("#stages")).to_contain_text("spare: reads of low priority wait their turn")
    await expect(page.locator("#errors tbody tr")).to_have_text(
        [re.compile("1FAILED504.late"), re.compile("1MISS40017limit reached")]
    )
    board.tell(errors=STATS["errors"] * 3, usage=[{**STATS["usage"][0], "id": f"app{each}"} for each in range(20)])
    await expect(pools).to_have_count(8)
    await page.get_by_role("button", name="Show all 20 limits").click()
    await expect(pools).to_have_count(20)
    await expect(page.locator("#errors tbody tr").first).to_have_text(re.compile("3FAILED504.late"))
    await page.get_by_role("radio", name="Ad accounts").check()
    await expect(page.locator("#costs tbody tr")).to_have_text(re.compile("^act_1900"))


async def test_what_is_wrong_is_seen_first(look: Look, board: Board) -> None:
    """In the first thing on the page and in the tab's title, with the way to its numbers; gone when it is over."""
    page = await live(await look(board.url))
    await expect(page.locator("#now-list li")).to_have_text(
        [re.compile("act_1.*limit is reached, regains in 21 min"), re.compile("not answer in time, last 40 s ago")]
    )
    assert await page.title() == "(2) graph-sidecar"
    await page.locator("#now-list").get_by_role("link", name="Quota").click()
    await expect(page.locator("#quota-head")).to_be_in_viewport()
    board.tell(troubles=[])
    await expect(page.locator("#now-list")).to_be_hidden()
    await expect(page.locator("#now-none")).to_be_visible()
    assert await page.title() == "graph-sidecar"


async def test_a_drain_is_seen(look: Look, board: Board) -> None:
    """The end is announced while the page still hears of it, with how many are inside."""
    page = await live(await look(board.url))
    board.tell(state="draining", open=3)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "draining")
    await expect(page.locator("#connection")).to_have_text("draining, 3 inside")


async def test_what_is_foreseen_is_told_as_that(look: Look, board: Board) -> None:
    """A stage that begins ahead of use says so; the page says whose numbers these are."""
    ahead = {**STATS["usage"][0], "stage": "spare", "foreseen_percent": 80.0, "foreseen_in_s": 120.0}
    board.tell(usage=[ahead])
    page = await live(await look(board.url))
    await expect(page.locator(".gauge .stage")).to_have_text(re.compile("spare ahead"))
    await expect(page.locator(".gauge .future")).to_have_text(re.compile("^at this rate 80 % in 2 min"))
    board.tell(usage=[{**ahead, "stage": "stop", "percent": 100.0, "regain_s": 0.0, "foreseen_percent": None}])
    await expect(page.locator(".gauge .future")).to_have_text(re.compile("^tried by the next read"))
    await expect(page.locator("#place")).to_have_text("ads-7f6d:8080 · calls https://graph.facebook.com")


async def test_what_is_selected_stays_selected(look: Look, board: Board) -> None:
    """The numbers are told every second; whoever copies a route, a limit or an error is not interrupted by it."""
    page = await live(await look(board.url))
    for place in (
        "#costs tbody th",
        "#errors tbody td:nth-child(6)",
        "#gauges .name b",
        "#modes-table th",
        "#facts dt",
    ):
        text = await page.locator(place).first.text_content()
        await page.locator(place).first.select_text()
        told = STATS["replies"]["MISS"] + 1
        newest = {**STATS["errors"][0], "at": STATS["now"], "what": "cut"}
        board.tell(outcomes={**board.stats["outcomes"], "MISS": told}, errors=[newest, *board.stats["errors"]])
        await expect(page.locator("[data-mode=MISS] data")).to_have_attribute("value", str(told))
        assert str(await page.evaluate("getSelection().toString()")).strip() == (text or "").strip(), place
        board.tell(outcomes=STATS["outcomes"], errors=STATS["errors"])
        await expect(page.locator("[data-mode=MISS] data")).to_have_attribute("value", str(STATS["replies"]["MISS"]))


async def test_a_restart_is_survived(look: Look, board: Board) -> None:
    """Counters fall to nothing: what was saved before stays in the window, what comes is added, nothing goes below."""
    page = await live(await look(board.url))
    board.tell(bytes_avoided=STATS["bytes_avoided"] + 5000)
    await expect(page.locator("#bytes-window")).to_have_attribute("value", "5000")
    await board.stop()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await expect(page.locator("#connection")).to_have_text(re.compile("^reconnecting… .*numbers of"))
    await expect(page.locator("#now-list li")).to_have_text([re.compile(r"No sidecar has answered since \d\d:\d\d")])
    board.stats.update(NO_READS, uptime_s=0.0, now=board.stats["now"] + 60)
    await board.start()
    await live(page)
    board.tell(bytes_avoided=700)
    await expect(page.locator("#bytes-total")).to_have_attribute("value", "700")
    assert await value(page, "bytes-window") == 5700
    await page.get_by_role("button", name="Bytes avoided as a table").click()
    rates = await page.locator("#bytes-chart data").evaluate_all("found => found.map(each => Number(each.value))")
    assert sorted(rates) == [8400, 60_000]


async def test_coming_back_it_says_what_it_knows(look: Look, board: Board) -> None:
    """The id of the last event goes along, and what was counted meanwhile is there."""
    page = await live(await look(board.url))
    board.tell(bytes_avoided=STATS["bytes_avoided"] + 5000)
    await expect(page.locator("#bytes-window")).to_have_attribute("value", "5000")
    board.cut()
    board.tell(2, bytes_avoided=STATS["bytes_avoided"] + 9000)
    await expect(page.locator("#bytes-window")).to_have_attribute("value", "9000")
    assert board.came_back_with == ["", "run1-2"]


async def test_rates_are_taken_over_gaps_and_restarts(look: Look, board: Board) -> None:
    """Time when nobody counted is no time without calls, and a counter that falls has begun anew."""
    page = await look(board.url)
    rows = [[0, 0, 0], [5, 5, 50], [10, 10, 100], [70, 1, 0], [75, 6, 10]]
    found: Any = await page.evaluate(
        """async (rows) => {
            const { Series } = await import('./assets/series.js');
            const series = new Series();
            series.begin({ columns: ['now', 'uptime_s', 'n'], rows: rows.slice(0, 3), step_s: 5 });
            series.begin({ columns: ['now', 'uptime_s', 'n'], rows: rows.slice(3), step_s: 5 });
            const bins = series.bins(300);
            const rates = series.rates(['n'], bins);
            return { growth: series.growth('n', 300), rates: rates.slice(-15).map((each) => each && each[0]) };
        }""",
        rows,
    )
    assert found["growth"] == 110
    assert found["rates"] == [10, 10, *[None] * 12, 2]


# --- for everybody


async def test_it_can_be_used_by_keyboard_alone(look: Look, board: Board) -> None:
    """Skip link, choices, the cursor of a chart, its table and the order of a table: all without pointing."""
    page = await live(await look(board.url))
    board.tell(3, outcomes={**STATS["outcomes"], "MISS": 95})
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the numbers")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#saved")).to_be_focused()

    await page.get_by_role("radio", name="15 min").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#saved-head")).to_contain_text("in the last 5 min")

    chart = page.get_by_role("slider", name="Replies by mode")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile("^last: REUSED 0.*MISS 15"))
    await chart.focus()
    await page.keyboard.press("End")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^\d\d:\d\d:\d\d: .*MISS 15"))
    await page.keyboard.press("ArrowLeft")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^\d\d:\d\d:\d\d: .*MISS 0"))
    await page.keyboard.press("Escape")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile("^last"))
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("region", name="Replies by mode as a table").locator("tbody tr")).to_have_count(3)

    head = page.locator("#costs th", has_text="Route")
    await head.get_by_role("button").focus()
    await page.keyboard.press("Enter")
    await expect(head).to_have_attribute("aria-sort", "ascending")
    await expect(head.get_by_role("button")).to_be_focused()


CONTRASTS = """() => {
    const probe = document.body.appendChild(document.createElement('i'));
    const light = (name) => {
        probe.style.color = `var(--${name})`;
        const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => linear(part / 255));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const against = (one, other) => {
        const [low, high] = [light(one), light(other)].toSorted((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const marks = ['blue', 'green', 'plum', 'sky', 'amber', 'slate', 'pale', 'red', 'edge'];
    return {
        page: getComputedStyle(document.body).backgroundColor,
        text: Math.min(...['text', 'soft', 'blue'].flatMap((name) => [against(name, 'card'), against(name, 'page')])),
        marks: Math.min(...marks.map((name) => against(name, 'card'))),
    };
}"""


async def test_both_schemes_can_be_read(look: Look, board: Board) -> None:
    """Light and dark follow the system or the reader's choice, and both keep the contrast of WCAG 2.2 AA."""
    seen = {}
    page = await live(await look(board.url))
    for system in SCHEMES:
        await page.emulate_media(color_scheme=system)
        seen[system] = await page.evaluate(CONTRASTS)
        assert seen[system]["text"] >= 4.5
        assert seen[system]["marks"] >= 3
    assert seen["light"]["page"] != seen["dark"]["page"]
    await page.get_by_role("radio", name="Light").check()
    await page.reload()
    assert await page.evaluate(CONTRASTS) == seen["light"]


async def test_a_narrow_window_is_enough(look: Look, board: Board) -> None:
    """At 360 px nothing has to be scrolled sideways but tables within their frame."""
    page = await live(await look(board.url, viewport=NARROW))
    board.tell(20)
    await page.get_by_role("button", name="Waited for Graph as a table").click()
    assert await page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [360, 360]
    one_line = "found => found.map(each => each.getClientRects().length && each.offsetHeight < 40)"
    assert all(await page.locator("#errors tbody tr").evaluate_all(one_line))


async def test_nothing_moves_for_those_who_want_it_still(look: Look, board: Board) -> None:
    """With reduced motion the dot does not pulse while the page reconnects."""
    page = await live(await look(board.url, reduced_motion="reduce"))
    await board.stop()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    assert await page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"


async def test_a_token_is_asked_for(look: Look, board: Board) -> None:
    """Where the admin listener wants one the page asks for it, says if it was wrong, and keeps it for this tab."""
    board.token = "sixteen-signs-or-more"
    page = await look(board.url)
    await expect(page.locator("#connection")).to_have_text("waiting for the token")
    await expect(page.get_by_role("dialog")).to_be_visible()
    claims = ".none:visible, .nothing:visible, #empty:visible, #now-list:visible, main td:visible, main li:visible"
    assert await page.locator(claims).all_text_contents() == []  # nothing is told before there are numbers
    field = page.get_by_label("Token", exact=True)
    for typed in ("wrong", "sixteen-signs-or-more"):
        await field.fill(typed)
        await page.keyboard.press("Enter")
        if typed == "wrong":
            await expect(page.get_by_role("alert")).to_be_visible()
    await live(page)
    await page.reload()
    await live(page)
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_old_numbers_are_called_old(look: Look, board: Board) -> None:
    """A page whose token is no longer taken says since when, and claims nothing about now."""
    page = await live(await look(board.url))
    board.token = "sixteen-signs-or-more"
    board.cut()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await expect(page.locator("#now-list")).to_have_text(re.compile("The sidecar has refused the token since"))
    await expect(page.locator("#connection")).to_have_text(re.compile("these are the numbers of"))
