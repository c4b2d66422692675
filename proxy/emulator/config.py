"""All settings of the emulator, and the settings that are in force."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Config:
    """The Graph to simulate; the defaults are a healthy Graph without limits."""

    seed: int = 1
    """Seeds the generated objects and the probability of faults."""
    oldest_version: str = "v19.0"
    """Calls for an expired version are served by this one, and the reply says so."""
    newest_version: str = "v26.0"
    """A call for a later version is an error."""
    default_version: str = ""
    """The version that serves a call without one; empty means the oldest."""
    link_origin: str = "https://graph.facebook.com"
    """Scheme and host of the links in `paging`."""
    cdn_origin: str = "https://scontent.xx.fbcdn.net"
    """Scheme and host of pictures."""

    body_bytes: int = 0
    """About how many bytes a node has when no `fields` were asked for; 0 leaves it small."""
    edge_length: int = 60
    """How many objects an edge holds before anything is written."""
    ad_accounts: tuple[str, ...] = ("1", "2", "3")
    """The numbers of the ad accounts that every user has."""
    page_size: int = 25
    """Objects on a page when no `limit` was asked for."""
    max_page_size: int = 5000
    """The largest `limit` that is honoured."""
    change_every_s: float = 0.0
    """The seconds after which each object changes; 0 means never."""
    viewer_by_default: bool = True
    """Every node includes its viewer by default, so that a test sees a reply that reached the wrong caller."""
    report_polls: int = 3
    """How many polls an insights job answers with an unfinished status."""

    field_order: str = "asked"
    """The order of an object's fields: as `asked`, or the object's `own`, whatever was asked."""
    edge_order: str = "newest"
    """The order of created objects on their edge: `newest` first, or by `id`."""

    async_polls: int | None = 2
    """How many polls of a request set or session show it unfinished; None means that polls do not advance it."""
    async_s: float = 0.0
    """Seconds after which a set or session is done without polls; 0 means that time does not advance it."""
    async_statuses: str = "upper"
    """The spelling of request statuses: `upper` (Meta's samples), `lower` (its prose), `sdk` (its SDKs)."""
    async_plain_true: bool = True
    """Changes and cancels of sets are answered `true` as Meta's page says; its Python SDK needs `{"success":true}`."""
    adbatch_limit: int = 1000
    """Operations that one `adbatch` takes."""

    etag_by_user_agent: bool = True
    """Whether the same body has another ETag under another User-Agent."""
    etag_by_channel: bool = True
    """Whether the same body has another ETag in a batch than alone."""
    etag_places: str = "both"
    """Which replies carry an ETag: of a `single` call, of a slot of a `batch`, `both`, or `none`."""
    not_modified_places: str = "both"
    """Where If-None-Match is obeyed: in a `single` call, in a slot of a `batch`, in `both`, or in `none`."""
    not_modified_counts: bool = True
    """Whether a 304 counts against the limits, as Meta says."""
    slots_count: bool = True
    """Whether each operation of a batch counts, as Meta says; if not, the batch counts as one call."""
    ids_count: bool = True
    """Whether each of `ids=` counts, as Meta says; if not, they count as one call."""
    etag_on_304: bool = False
    """Whether a 304 repeats the ETag."""
    batch_formatting: str = "same"
    """How item bodies are formatted: `same` as alone, always `compact`, or always `pretty`."""
    pretty_for_browsers: bool = True
    """A User-Agent that starts with Mozilla gets indented JSON."""
    set_cookie: bool = False
    """Items of a batch carry a Set-Cookie, as old captures do."""
    compress: bool = False
    """Whether replies are gzipped for clients that accept it."""

    refused_tokens: tuple[str, ...] = ()
    """Tokens that are refused with code 190 wherever they appear."""
    refused_on_top: tuple[str, ...] = ()
    """Tokens that are good for an operation, and refused as the top-level token of a batch."""
    refused_subcode: int = 463
    """The subcode of these refusals; 463 is an expired token."""
    public_ids: tuple[str, ...] = ()
    """Objects that may be read without a token."""
    missing_ids: tuple[str, ...] = ()
    """Objects that do not exist, besides ids that start with `err` or lie between 404000 and 404999."""
    app_secret: str = ""
    """When set, a wrong `appsecret_proof` is refused."""
    proof_on_top: str = "bare"
    """The slots for which the top-level `appsecret_proof` is valid: `bare` (without a token), `every`, or `none`."""
    require_proof: bool = False
    """When set with `app_secret`, a missing `appsecret_proof` is refused too."""

    webhook_url: str = ""
    """Where webhook notifications are sent, signed with `app_secret`: an address of this machine; empty for none."""
    webhook_verify_token: str = ""
    """The verify token sent to `webhook_url` when `POST /__emulator__/subscribe` verifies it."""

    budget: int | None = None
    """Calls allowed within the window; None means no limit."""
    budget_scope: str = "app"
    """Which calls share a budget: `app` means all calls, `token` the calls of one token."""
    window_s: float = 3600.0
    """Seconds of the clock over which calls are added up."""
    usage_headers: bool = True
    """Whether replies carry usage headers."""
    throttle_code: int = 4
    """The code of a call beyond the budget."""
    throttle_status: int = 400
    """The HTTP status of a call beyond the budget."""
    account_budget: int | None = None
    """Calls allowed on each ad account within the window, insights and the rest apart; None means no such limit."""
    account_code: int = 0
    """The code of a call beyond an account's budget; 0 means 80000 for insights and 80004 for the rest."""
    block_s: float = 0.0
    """How long calls are refused after a budget was exceeded; each call meanwhile restarts that time. 0 means that
    calls are refused only while the window is full."""

    usage_place: str = "items"
    """Where a batch has usage headers: in its `items`, on the `outer` reply alone, or on `both`."""
    batch_fields: str = "all"
    """The header fields of a slot: `all` fields of a direct reply, or a `few`, with the others on the outer reply."""
    slot_headers: str = "objects"
    """How an item tells its header fields: `objects` with name and value, `strings`, or one `map`."""
    slot_header_order: str = "captured"
    """In which order they stand: as in captures, or `reversed`."""
    language_by_header: bool = True
    """Whether Accept-Language chooses the language, as `locale` does."""
    language_inherited: bool = True
    """Whether the Accept-Language of a batch holds for its operations."""
    batch_links: str = "plain"
    """The `paging` links of a slot: as in a direct reply (`plain`), or with `_fb_` parameters (`marked`)."""
    batch_inherits: bool = True
    """Whether `locale`, `date_format`, `debug` and the like at the top of a batch hold for its operations."""
    refuse_repeated_fields: bool = False
    """Whether a field that is named twice in one list is refused (code 2500), as since v2.1."""

    batch_limit: int = 50
    """Operations that one batch takes."""
    unperformed_count: bool = False
    """Whether operations that were not performed count: their batch was refused, or their parents failed."""
    dependent_failure: str = "null"
    """The slot of an operation whose parent failed: `null`, or the error `960`."""
    batch_poison_ids: tuple[str, ...] = ()
    """Objects that can be read alone but fail in a batch."""
    batch_poison: str = "whole"
    """How such an object fails: `whole` fails the batch with code 1, `null` empties its slot."""
    faults: tuple[str, ...] = ()
    """Faults in force from the start, each a JSON object as the control call takes it."""
    keep_alive: bool = True
    """Whether a connection stays open for its next call."""
    http_version: str = "1.1"
    """The version of HTTP that replies name: `1.1` or `1.0`."""
    via: str = ""
    """The proxy that `Via` names; empty for none."""
    clock_off_s: float = 0.0
    """How many seconds the clock of `Date` is ahead."""
    latency_ms: float = 0.0
    """How long every HTTP call takes, batch or not."""

    stream_over_bytes: int = 8 * 1024 * 1024
    """A body larger than this is counted and hashed while it is read, and not parsed."""
    ledger_requests: int = 1000
    """How many of the last requests the ledger keeps."""


class LiveConfig:
    """The Config in force: replaced whole, never edited."""

    def __init__(self, config: Config) -> None:
        """Start with *config*."""
        self.initial = config
        self.config = config

    def update(self, changes: dict[str, Any]) -> None:
        """Put *changes* in force; an unknown name raises ValueError."""
        unknown = sorted(set(changes) - {field.name for field in fields(Config)})
        if unknown:
            raise ValueError(f"no such setting: {', '.join(unknown)}")
        self.config = replace(self.config, **{name: _frozen(value) for name, value in changes.items()})

    def reset(self) -> None:
        """Put the first Config in force again."""
        self.config = self.initial


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
