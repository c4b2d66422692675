"""Every setting of the emulator, and the holder of the settings in force."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Config:
    """What kind of Graph to play; the defaults are a healthy one without limits."""

    seed: int = 1
    """The generated world and the dice of the faults follow from it."""
    oldest_version: str = "v19.0"
    """Calls for an expired version are served by this one, and the reply says so."""
    newest_version: str = "v26.0"
    """A call for a later version is an error."""
    default_version: str = ""
    """What serves a call without a version; empty means the oldest."""
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
    """Each object changes by itself this often; 0 means never."""
    viewer_by_default: bool = True
    """Every node names its viewer without being asked, so that a reply in wrong hands shows."""
    report_polls: int = 3
    """How many polls an insights job answers with an unfinished status."""

    field_order: str = "asked"
    """In which order an object's fields stand: as `asked`, or in the object's `own`, whatever was asked."""
    edge_order: str = "newest"
    """Where created objects stand on their edge: `newest` first, or by `id`, whatever the order of the writes."""

    async_polls: int | None = 2
    """How many polls a request set or session answers unfinished; None means that polls do not move it."""
    async_s: float = 0.0
    """Seconds of the clock in which a set or session is done, polls or not; 0 means the clock does not move it."""
    async_statuses: str = "upper"
    """How requests of a set tell their status: `upper` as in Meta's samples, `lower` as in its prose, or `sdk`: all."""
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
    """Where If-None-Match is looked at: in a `single` call, in a slot of a `batch`, in `both`, or in `none`."""
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
    """Replies are gzipped for those who accept it."""

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
    """For which slots the top-level `appsecret_proof` vouches: `bare` ones without a token, `every` one, or `none`."""
    require_proof: bool = False
    """When set with `app_secret`, a missing `appsecret_proof` is refused too."""

    webhook_url: str = ""
    """Where changes are told of, signed with `app_secret`: an address of this machine; empty for nowhere."""
    webhook_verify_token: str = ""
    """What the handshake with `webhook_url` shows; `POST /__emulator__/subscribe` performs it."""

    budget: int | None = None
    """Calls allowed within the window; None means no limit."""
    budget_scope: str = "app"
    """Whose calls are added up: `app` means all callers, `token` each one's own."""
    window_s: float = 3600.0
    """Seconds of the clock over which calls are added up."""
    usage_headers: bool = True
    """Whether replies tell how much of the budget is used."""
    throttle_code: int = 4
    """The code of a call beyond the budget."""
    throttle_status: int = 400
    """The HTTP status of a call beyond the budget."""
    account_budget: int | None = None
    """Calls allowed on each ad account within the window, insights and the rest apart; None means no such limit."""
    account_code: int = 0
    """The code of a call beyond an account's budget; 0 means 80000 for insights and 80004 for the rest."""
    block_s: float = 0.0
    """How long one who went over a budget is refused; each call made meanwhile begins that time anew. 0 means that
    calls are refused only while the window is full."""

    usage_place: str = "items"
    """Where a batch tells of usage: in its `items`, on the `outer` reply alone, or on `both`."""
    batch_fields: str = "all"
    """Which header fields an item of a batch has: `all` of a direct reply's, or but a `few`, the rest around them."""
    slot_headers: str = "objects"
    """How an item tells its header fields: `objects` with name and value, `strings`, or one `map`."""
    slot_header_order: str = "captured"
    """In which order they stand: as in captures, or `reversed`."""
    language_by_header: bool = True
    """Whether Accept-Language chooses the language, as `locale` does."""
    language_inherited: bool = True
    """Whether the Accept-Language of a batch holds for its operations."""
    batch_links: str = "plain"
    """What `paging` links of a slot hold: the same as alone (`plain`), or `_fb_` parameters besides (`marked`)."""
    batch_inherits: bool = True
    """Whether `locale`, `date_format`, `debug` and the like at the top of a batch hold for its operations."""
    refuse_repeated_fields: bool = False
    """Whether a field that is named twice in one list is refused (code 2500), as since v2.1."""

    batch_limit: int = 50
    """Operations that one batch takes."""
    unperformed_count: bool = False
    """Whether the operations of a batch count that were not performed: it was refused, or their parents failed."""
    dependent_failure: str = "null"
    """What the slot of an operation holds whose parent failed: `null`, or the error `960`."""
    batch_poison_ids: tuple[str, ...] = ()
    """Objects that can be read alone and spoil a batch."""
    batch_poison: str = "whole"
    """What such an object does: `whole` fails the batch with code 1, `null` empties its slot."""
    faults: tuple[str, ...] = ()
    """Faults in force from the start, each a JSON object as the control call takes it."""
    keep_alive: bool = True
    """Whether a connection stays open for its next call."""
    http_version: str = "1.1"
    """The version of HTTP that replies name: `1.1` or `1.0`."""
    clock_off_s: float = 0.0
    """How many seconds the clock of `Date` is ahead."""
    latency_ms: float = 0.0
    """How long every HTTP call takes, batch or not."""

    stream_over_bytes: int = 8 * 1024 * 1024
    """A body larger than this is counted and hashed as it comes, and not looked into."""
    ledger_requests: int = 1000
    """How many of the last requests the ledger keeps."""


class Settings:
    """The Config in force: replaced whole, never edited."""

    def __init__(self, config: Config) -> None:
        """Start with *config*."""
        self.initial = config
        self.config = config

    def change(self, changes: dict[str, Any]) -> None:
        """Put *changes* in force; an unknown name raises ValueError."""
        unknown = sorted(set(changes) - {field.name for field in fields(Config)})
        if unknown:
            raise ValueError(f"no such setting: {', '.join(unknown)}")
        self.config = replace(self.config, **{name: _frozen(value) for name, value in changes.items()})

    def restore(self) -> None:
        """Put the first Config in force again."""
        self.config = self.initial


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
