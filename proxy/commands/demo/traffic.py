"""The requests of an ad dashboard: a few hundred people, a few tokens, and the same accounts read again and again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

VERSION = "v25.0"
_OTHER_VERSION = "v24.0"
TOKENS = ("aarhus", "berlin", "lisbon", "lyon", "malmo", "turin")
"""One for each team; everyone in a team shares it, as a server's callers do."""

SLOW_MOVING = "/me/adaccounts"
"""The list of accounts changes seldom: the demo's only rule lets it be fresh for a while."""

_ACCOUNTS = f"/{VERSION}{SLOW_MOVING}?fields=name,account_status,currency"
_CAMPAIGNS = "/{version}/{account}/campaigns?fields=name,status,objective,daily_budget,updated_time&limit=25"
_ADS = "/{version}/{account}/ads?fields=name,effective_status,creative{{id,title,body}},updated_time&limit=25"
_REPORT = (
    "/{version}/{account}/insights?level=campaign&date_preset=last_7d&time_increment=1"
    "&fields=campaign_id,campaign_name,impressions,clicks,spend,ctr"
)
_CAMPAIGN = "/{version}/{campaign}?fields=name,status,objective,daily_budget,budget_remaining,start_time,updated_time"
_CAMPAIGN_REPORT = (
    "/{version}/{campaign}/insights?date_preset=last_7d&time_increment=1&fields=impressions,clicks,spend,ctr,reach"
)
_CAMPAIGNS_ON_SCREEN = 8


@dataclass(frozen=True, slots=True)
class DemoRead:
    """One request of a caller; a request with a body is a write."""

    token: str
    target: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to the dashboard: its time in seconds after the start, and its requests in order."""

    at: float
    asks: tuple[DemoRead, ...]


@dataclass(frozen=True, slots=True)
class Team:
    """The accounts that one token can read, each with its campaigns."""

    token: str
    accounts: tuple[tuple[str, tuple[str, ...]], ...]


async def teams(read: Callable[[DemoRead], Awaitable[bytes]]) -> list[Team]:
    """Returns what each token can read, as Graph answers; *read* sends one request."""

    async def ids(token: str, target: str) -> tuple[str, ...]:
        found = json.loads(await read(DemoRead(token, target)))
        return tuple(each["id"] for each in found["data"])

    async def team(token: str) -> Team:
        accounts = await ids(token, _ACCOUNTS)
        campaigns = await asyncio.gather(*(ids(token, campaigns_of(each)) for each in accounts))
        return Team(token, tuple(zip(accounts, campaigns, strict=True)))

    return await asyncio.gather(*(team(token) for token in TOKENS))


def campaigns_of(account: str) -> str:
    """Returns the request target that lists an account's campaigns."""
    return _CAMPAIGNS.format(version=VERSION, account=account)


def plan_visits(known: Sequence[Team], callers: int, seconds: float, seed: int = 1) -> list[list[Visit]]:
    """Returns the visits of each caller; equal seeds give equal visits, so that the same traffic can be sent twice."""
    dice = random.Random(seed)
    return [list(_visits(known[number % len(known)], seconds, dice)) for number in range(callers)]


def warm_up(visits: Sequence[Sequence[Visit]], seconds: float) -> list[list[Visit]]:
    """Returns the *visits* of the first *seconds*, in another version of Graph's: no reply is stored for later ones."""
    return [[_of_another_version(visit) for visit in each if visit.at < seconds] for each in visits]


def _of_another_version(visit: Visit) -> Visit:
    asks = (replace(ask, target=ask.target.replace(VERSION, _OTHER_VERSION, 1)) for ask in visit.asks)
    return Visit(visit.at, tuple(asks))


def _visits(team: Team, seconds: float, dice: random.Random) -> Iterator[Visit]:
    """Yields the visits of one caller: the first at a random time, then one every few seconds."""
    at = dice.uniform(0, min(2.5, seconds))
    while at < seconds:
        yield Visit(at, tuple(_look(team, dice)))
        at += dice.uniform(2.0, 4.5)


def _look(team: Team, dice: random.Random) -> Iterator[DemoRead]:
    account, campaigns = dice.choices(team.accounts, weights=range(len(team.accounts), 0, -1))[0]
    # Most people look at what stands on top of the list.
    campaign = campaigns[min(int(dice.expovariate(0.5)), _CAMPAIGNS_ON_SCREEN - 1)]
    for target in (_ACCOUNTS, _CAMPAIGNS, _ADS, _REPORT, _CAMPAIGN, _CAMPAIGN_REPORT):
        yield DemoRead(team.token, target.format(version=VERSION, account=account, campaign=campaign))
    if dice.random() < 0.04:
        yield DemoRead(team.token, f"/{VERSION}/{campaign}", f"status={dice.choice(['ACTIVE', 'PAUSED'])}")
        yield DemoRead(team.token, _CAMPAIGN.format(version=VERSION, campaign=campaign))
