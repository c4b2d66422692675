"""Counts calls as Meta counts them: each slot, each id of `ids=` and each 304 is one call.

developers.facebook.com, "Batch Requests", "Rate Limits" and "Marketing API: ETags". No token is kept, only its hash.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from proxy.emulator.config import LiveConfig
from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Call, Channel
from proxy.emulator.language.json_style import parameter_text
from proxy.emulator.language.operations import item_headers

_SECRET = re.compile(
    r"((?:access_token|appsecret_proof|client_secret|input_token|fb_exchange_token)(?:=|%3D))([^&\s\"'\\]+)",
    re.IGNORECASE,
)


class Ledger:
    """Counters since the start or the last reset."""

    def __init__(self, settings: LiveConfig) -> None:
        """Start with all counters at 0."""
        self._settings = settings
        self.clear()

    def clear(self) -> None:
        """Set all counters to 0."""
        self.http_calls = 0
        self.batches = 0
        self.slots: list[int] = []
        self.counted_calls = 0
        self.not_modified: Counter[Channel] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections = 0
        self.throttled_calls = 0
        self.faults = 0
        self.floods = 0
        self.user_agents: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.writes: Counter[tuple[str, str]] = Counter()
        self._recent: deque[dict[str, Any]] = deque(maxlen=self._settings.config.ledger_requests)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The last requests, oldest first, with every credential masked."""
        return [_masked_request(request) for request in self._recent]

    def record_request(self, request: dict[str, Any], user_agent: str) -> None:
        """Record an HTTP call."""
        self.http_calls += 1
        self.user_agents[user_agent] += 1
        self._recent.append(request)

    def record_batch(self, slots: int) -> None:
        """Record that the call was a batch of *slots* operations."""
        self.batches += 1
        self.slots.append(slots)

    def record_call(self, call: Call, calls: int) -> None:
        """Record an operation that counts as *calls* calls."""
        self.counted_calls += calls
        self.tokens[token_hash(call.token)] += calls
        if call.method != "GET":
            self.writes[call.method, "/" + "/".join(call.path)] += 1

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "http_calls": self.http_calls,
            "batches": self.batches,
            "slots": self.slots,
            "counted_calls": self.counted_calls,
            "not_modified": {"single": self.not_modified["single"], "batch": self.not_modified["batch"]},
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "connections": self.connections,
            "throttled_calls": self.throttled_calls,
            "faults": self.faults,
            "floods": self.floods,
            "user_agents": dict(self.user_agents),
            "tokens": dict(self.tokens),
            "writes": [{"method": verb, "path": path, "count": n} for (verb, path), n in self.writes.items()],
            "requests": self.requests,
        }


@lru_cache(maxsize=65536)
def token_hash(token: str | None) -> str:
    """The short name under which a token is counted."""
    return "anonymous" if token is None else sha256(token.encode()).hexdigest()[:12]


def _masked_request(request: dict[str, Any]) -> dict[str, Any]:
    """A request with its credentials masked, and the operations of a batch one by one."""
    shown = {**request, "target": mask_credentials(request["target"])}
    batch = shown.pop("batch")
    if batch is not None:
        shown["slots"] = [_masked_slot(item) for item in _items(batch)]
    return shown


def _items(batch: Any) -> list[dict[str, Any]]:
    try:
        found = loose_json.loads(batch) if isinstance(batch, str) else batch
    except ValueError:
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _masked_slot(item: dict[str, Any]) -> dict[str, Any]:
    shown = {
        name: mask_credentials(parameter_text(item[name]))
        for name in ("method", "relative_url", "name", "body")
        if item.get(name)
    }
    return {**shown, "headers": sorted(item_headers(item.get("headers")))}


def mask_credentials(text: str) -> str:
    """*text* with every credential replaced by its short name."""
    return _SECRET.sub(lambda found: f"{found[1]}#{token_hash(unquote(found[2]))}", text)
