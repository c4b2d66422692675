"""Insights: rows of numbers per day and object, and the jobs that gather them.

developers.facebook.com, "Insights API" and "Insights API: Best Practices".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any

from proxy.emulator.config import LiveConfig
from proxy.emulator.language import loose_json
from proxy.emulator.language.errors import bad_parameter, nonexisting_field, report_unfinished
from proxy.emulator.language.fields import Field
from proxy.emulator.language.json_style import parameter_text
from proxy.emulator.language.query import Params
from proxy.emulator.objects.object_types import OBJECT_TYPES, child_id, owner_number

DEFAULT = ("impressions", "spend", "date_start", "date_stop")

_DAYS = {"today": 1, "yesterday": 1, "last_3d": 3, "last_7d": 7, "last_14d": 14, "last_28d": 28, "last_30d": 30}
_LEVELS = {"account": 1, "campaign": 3, "adset": 4, "ad": 5}
_LEVEL_KINDS = {"campaign": "Campaign", "adset": "AdSet", "ad": "Ad"}


@dataclass(slots=True)
class Row:
    """One line of a report, before its fields are chosen."""

    account: str
    start: date
    stop: date
    level: str
    subject: str
    number: int


Maker = Callable[[Row], Any]


def _count(top: int) -> Maker:
    return lambda row: str(row.number % top)


def _share(row: Row) -> str:
    return f"{row.number % 10_000 / 1000:.6f}"


def _actions(row: Row) -> list[dict[str, str]]:
    return [{"action_type": "link_click", "value": str(row.number % 900)}]


_COUNTS = "clicks reach unique_clicks inline_link_clicks inline_post_engagement unique_inline_link_clicks"
_SHARES = """
    cpc cpm cpp ctr frequency unique_ctr inline_link_click_ctr unique_inline_link_click_ctr
    cost_per_unique_click cost_per_inline_link_click cost_per_inline_post_engagement social_spend relevance_score
    cost_per_unique_inline_link_click unique_link_clicks_ctr canvas_avg_view_percent canvas_avg_view_time
"""
_ACTIONS = """
    actions action_values conversions conversion_values outbound_clicks unique_outbound_clicks unique_actions
    cost_per_action_type cost_per_unique_action_type cost_per_10_sec_video_view purchase_roas website_purchase_roas
    video_30_sec_watched_actions video_p25_watched_actions video_p50_watched_actions video_p75_watched_actions
    video_p100_watched_actions video_play_actions website_ctr
"""
_EMPTY_COLUMNS = """
    attribution_setting catalog_segment_value comscore_market converted_product_quantity converted_product_value
    cost_per_conversion cost_per_estimated_ad_recallers cost_per_outbound_click cost_per_thruplay place_page_name
    cost_per_unique_outbound_click estimated_ad_recall_rate estimated_ad_recallers full_view_impressions placement
    hourly_stats_aggregated_by_advertiser_time_zone instant_experience_clicks_to_open optimization_goal
    instant_experience_clicks_to_start instant_experience_outbound_clicks mobile_app_purchase_roas
    outbound_clicks_ctr qualifying_question_qualify_answer_rate video_play_curve_actions
"""
_TEXTS = {
    "account_currency": "DKK",
    "account_name": "Café Nørrebro",
    "buying_type": "AUCTION",
    "objective": "OUTCOME_TRAFFIC",
    "quality_ranking": "UNKNOWN",
    "engagement_rate_ranking": "UNKNOWN",
    "conversion_rate_ranking": "UNKNOWN",
    "call_to_action_clicks": "0",
    "age": "25-34",
    "gender": "female",
    "country": "DK",
    "region": "Hovedstaden",
    "dma": "unknown",
    "publisher_platform": "facebook",
    "platform_position": "feed",
    "impression_device": "desktop",
}


def _always(text: str) -> Maker:
    return lambda _row: text


def _level_id(level: str) -> Maker:
    return lambda row: (
        row.subject if level == row.level else child_id(OBJECT_TYPES[_LEVEL_KINDS[level]], row.account, 0)
    )


def _level_name(level: str) -> Maker:
    return lambda row: f"Søndag {_level_id(level)(row)}"


COLUMN_MAKERS: dict[str, Maker] = {
    "impressions": _count(100_000),
    "spend": lambda row: f"{row.number % 1_000_000 / 100:.2f}",
    "date_start": lambda row: row.start.isoformat(),
    "date_stop": lambda row: row.stop.isoformat(),
    "account_id": lambda row: row.account.removeprefix("act_"),
    **{name: _count(9_000) for name in _COUNTS.split()},
    **dict.fromkeys(_SHARES.split(), _share),
    **dict.fromkeys(_ACTIONS.split(), _actions),
    **{name: _always(text) for name, text in _TEXTS.items()},
    **{f"{level}_id": _level_id(level) for level in _LEVEL_KINDS},
    **{f"{level}_name": _level_name(level) for level in _LEVEL_KINDS},
}


def rows(parent: str, params: Params, now: float) -> list[Row]:
    """The lines of the report that *params* describe."""
    level = str(params.get("level") or "account")
    start, stop = _range(params, datetime.fromtimestamp(now, UTC).date())
    subjects = [_subject(level, parent, index) for index in range(_LEVELS.get(level, 1))]
    return [
        Row(parent, first, last, level, subject, _number(subject, first))
        for subject in subjects
        for first, last in _periods(start, stop, str(params.get("time_increment") or "all_days"))
    ]


def select_columns(row: Row, fields: tuple[Field, ...] | None) -> dict[str, Any]:
    """The asked fields of a row; the dates come unasked."""
    names = [field.name for field in fields] if fields else list(DEFAULT)
    values: dict[str, Any] = {}
    for name in dict.fromkeys([*names, "date_start", "date_stop"]):
        if name in COLUMN_MAKERS:
            values[name] = COLUMN_MAKERS[name](row)
        elif name not in _EMPTY_COLUMNS.split():
            raise nonexisting_field(name, "AdsInsights")
    return values


def _subject(level: str, parent: str, index: int) -> str:
    kind = _LEVEL_KINDS.get(level)
    return child_id(OBJECT_TYPES[kind], parent, index) if kind else parent


def _number(subject: str, day: date) -> int:
    return int.from_bytes(blake2b(f"{subject}{day}".encode(), digest_size=8).digest(), "big")


def _range(params: Params, today: date) -> tuple[date, date]:
    """The first and last day, from `time_range` or `date_preset`."""
    asked = params.get("time_range")
    if asked:
        try:
            span = asked if isinstance(asked, dict) else loose_json.loads(parameter_text(asked))
            return date.fromisoformat(span["since"]), date.fromisoformat(span["until"])
        except (ValueError, KeyError, TypeError):
            raise bad_parameter("Must be a dict with since and until as YYYY-MM-DD: time_range") from None
    preset = str(params.get("date_preset") or "last_30d")
    last = today if preset == "today" else today - timedelta(days=1)
    return last - timedelta(days=_DAYS.get(preset, 30) - 1), last


def _periods(start: date, stop: date, increment: str) -> Iterator[tuple[date, date]]:
    if not increment.isdecimal():
        yield start, stop
        return
    step = timedelta(days=max(1, int(increment)))
    while start <= stop:
        yield start, min(start + step - timedelta(days=1), stop)
        start += step


# --- jobs


@dataclass(slots=True)
class ReportRun:
    """A report that is being gathered."""

    parent: str
    params: Params
    polls: int = 0


class ReportRuns:
    """Reports by the id of their run; each poll brings one closer to its end."""

    def __init__(self, settings: LiveConfig, clock: Callable[[], float], new_id: Callable[..., str]) -> None:
        """Start with no report asked for; *new_id* makes the ids of runs."""
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._runs: dict[str, ReportRun] = {}

    def clear(self) -> None:
        """Forget all reports."""
        self._runs.clear()

    def start(self, parent: str, params: Params) -> str:
        """Begin a report and return the id of its run."""
        run = self._new_id(OBJECT_TYPES["AdReportRun"].prefix, parent, params)
        self._runs[run] = ReportRun(parent, params)
        return run

    def as_json(self) -> dict[str, Any]:
        """Which reports were asked for."""
        return {run: {"parent": job.parent, "params": job.params} for run, job in sorted(self._runs.items())}

    def poll(self, run: str) -> dict[str, Any] | None:
        """The state of a run, which moves with every poll; None for an id that is no run."""
        job = self._runs.get(run)
        if job is None:
            return None
        job.polls += 1
        state = self._state(job)
        return {"id": run, "account_id": owner_number(job.parent), "time_ref": int(self._clock()), **state}

    def _state(self, job: ReportRun) -> dict[str, Any]:
        needed = self._settings.config.report_polls
        if self._is_done(job):
            return {"async_status": "Job Completed", "async_percent_completion": 100}
        started = "Job Not Started" if job.polls == 1 and needed > 1 else "Job Running"
        return {"async_status": started, "async_percent_completion": (job.polls - 1) * 100 // (needed + 1)}

    def finished(self, run: str) -> ReportRun | None:
        """The report of a run whose rows may be read; one still running raises."""
        job = self._runs.get(run)
        if job and not self._is_done(job):
            raise report_unfinished()
        return job

    def _is_done(self, job: ReportRun) -> bool:
        needed = self._settings.config.report_polls
        return job.polls > needed or needed == 0
