"""What can be set: one frozen model, each setting with its default, its bounds and its meaning.

`proxy.loading` fills it from the file, the environment and the command line; `Settings()` alone is the defaults.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

NAME = "graph-sidecar"
YEAR_S = 365 * 86400

# A label of a host name: RFC 1123, plus the underscore that container networks allow.
_HOST = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# A field value of RFC 9110 in plain ASCII: no control characters, no white space at the ends.
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port, port 0 for any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody on another machine can reach it."""
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        """As it is written: an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """HOST:PORT as an address."""
    if isinstance(value, Address):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else -1
    if not colon or not _is_host(host) or not 0 <= number <= 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080")
    return Address(host.strip("[]"), number)


def _is_host(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        return _is_ip(text[1:-1], 6)
    return _HOST.fullmatch(text.lower()) is not None


def _is_address(text: str) -> bool:
    return _is_ip(text, 4) or _is_ip(text, 6)


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _origin(value: str) -> str:
    shape = "must be http:// or https:// and a host, perhaps a port, and nothing more"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValueError(shape) from None
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    netloc = host if port is None else f"{host}:{port}"
    # Whatever these four did not account for (a path, a query, a user, a space) is not an origin.
    if url.scheme not in {"http", "https"} or not _is_host(host) or port == 0:
        raise ValueError(shape)
    if value.lower() not in {f"{url.scheme}://{netloc}", f"{url.scheme}://{netloc}/"}:
        raise ValueError(shape)
    return f"{url.scheme}://{netloc}"


def _host(value: str) -> str:
    if not _HOST.fullmatch(value.lower()):
        raise ValueError("must be a host name such as graph.facebook.com, without scheme, port or path")
    return value.lower()


def _user_agent(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("must be a legal header value: up to 256 plain ASCII characters, no space at either end")
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("must be a path")
    try:
        return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - Path has no lexical normal form
    except RuntimeError:
        raise ValueError("must be an absolute path, since this user has no home directory") from None


def _user_folder(find: Callable[[str], Path]) -> Path:
    try:
        return find(NAME)
    except RuntimeError:
        return Path("~") / NAME  # which `_path` refuses with a line of its own, unless another is set


def _real(path: Path) -> Path:
    # Unlike Path.resolve, realpath takes a loop of links calmly.
    return Path(os.path.realpath(path))


def _key_file(value: object) -> Path | str:
    return "ephemeral" if value == "ephemeral" else _path(value)


def _token_file(value: object) -> Path | str:
    return "" if value == "" else _path(value)


def _server(value: str) -> str:
    """An address of a machine: IP, or IP and port."""
    host, colon, port = (
        value.rpartition(":") if re.fullmatch(r"\[.+\]:[0-9]+|[^:]+:[0-9]+", value) else (value, "", "0")
    )
    bare = host.removeprefix("[").removesuffix("]")
    if not (_is_ip(bare, 4) or _is_ip(bare, 6)) or not 0 <= int(port) <= 65535 or (colon and not int(port)):
        raise ValueError(
            "must be an IP address and perhaps a port, such as 1.1.1.1, 10.0.0.2:5353 or [2606:4700::1]:53"
        )
    ip = f"[{bare}]" if ":" in bare else bare
    return f"{ip}:{port}" if colon else ip


def _no_server(value: str) -> str:
    return _server(value) if value else ""


def _reachable(value: str) -> str:
    if value == "any":
        return value
    host, _, port = value.rpartition(":") if re.search(r":[0-9]{1,5}$", value) else (value, "", "443")
    if not _is_host(host) or not 1 <= int(port) <= 65535:
        raise ValueError("must be any, none, or hosts such as api.example.com and perhaps their ports")
    return value.lower()


def _tunnels(value: object) -> object:
    found = _strings(value)
    return () if found == ("none",) else found


def _glob(value: str) -> str:
    if not value or re.search(r"[\s#]", value) or "//" in value:
        raise ValueError("must be a glob over the path without its version, such as /act_*/insights")
    return value


def _version(value: str) -> str:
    if value and not re.fullmatch(r"v[0-9]{1,4}\.[0-9]{1,4}", value):
        raise ValueError("must be a version of Graph's, such as v25.0")
    return value


def _strings(value: object) -> object:
    """A list, or text with commas, as the tuple that the model keeps."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return _items(value, "must be a list of strings")


def _tables(value: object) -> object:
    return _items(value, "must be a list of tables, each with a path")


def _items(value: object, otherwise: str) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(otherwise)  # noqa: TRY004 - pydantic collects ValueError
    return tuple(value)


Listen = Annotated[Address, BeforeValidator(parse_address)]
MaybeListen = Annotated[Address | Literal[""], BeforeValidator(lambda value: value and parse_address(value))]
Origin = Annotated[str, AfterValidator(_origin)]
Host = Annotated[str, AfterValidator(_host)]
UserAgent = Annotated[str, AfterValidator(_user_agent)]
Glob = Annotated[str, AfterValidator(_glob)]
Server = Annotated[str, AfterValidator(_server)]
NoServer = Annotated[str, AfterValidator(_no_server)]
Servers = Annotated[tuple[Server, ...], BeforeValidator(_strings)]
Reachable = Annotated[str, AfterValidator(_reachable)]
Tunnels = Annotated[tuple[Reachable, ...], BeforeValidator(_tunnels)]
Folder = Annotated[Path, BeforeValidator(_path)]
TokenFile = Annotated[Path | Literal[""], BeforeValidator(_token_file)]
KeyFile = Annotated[Path | Literal["ephemeral"], BeforeValidator(_key_file)]
Hosts = Annotated[tuple[Host, ...], BeforeValidator(_strings)]
RuleVersion = Annotated[str, AfterValidator(_version)]
Names = Annotated[tuple[str, ...], BeforeValidator(_strings)]
# An empty value is how a compose file or a chart says "none".
Size = Annotated[int, BeforeValidator(lambda value: 0 if value == "" else value)]


class Section(BaseModel, frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True):
    """Settings that belong together. Strict: `slots = true` is a mistake, not a one."""


class Listener(Section):
    """What a caller's connection may take."""

    connections: int = Field(default=10_000, ge=1, le=1_000_000, description="open at once; one more is told 503")
    head_timeout_s: float = Field(
        default=10, ge=0.1, le=3600, description="seconds from a message's first byte to the end of its head, then 408"
    )
    stall_timeout_s: float = Field(
        default=60, ge=0.1, le=3600, description="seconds in which a body may not go on, or an answer not be taken"
    )
    idle_timeout_s: float = Field(
        default=75, ge=0.1, le=86_400, description="seconds that a connection is kept open for its next message"
    )


class Upstream(Section):
    """Graph, as the sidecar asks it."""

    origin: Origin = Field(
        default="https://graph.facebook.com", description="where calls go: scheme, host and perhaps a port"
    )
    hosts: Hosts = Field(
        default=(
            "graph.beta.facebook.com",
            "graph-video.facebook.com",
            "graph-video.beta.facebook.com",
            "rupload.facebook.com",
            "streaming-graph.facebook.com",
            "graph.instagram.com",
            "graph.threads.net",
            "graph.threads.com",
        ),
        description="the other hosts that an application may ask for by Host",
    )
    nameservers: Servers = Field(
        default=(),
        description="DNS servers that are asked for Graph's addresses, past the hosts file; none: as the system does",
    )
    address: NoServer = Field(
        default="", description="an IP address, perhaps with a port, where Graph is reached whatever its name says"
    )
    user_agent: UserAgent = Field(
        default=NAME,
        description="sent with every read; ETags depend on it, so it holds no version that an upgrade would change",
    )
    connections: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="reads on their way to Graph at once; streams have connections of their own",
    )
    connect_timeout_s: float = Field(
        default=5, ge=0.1, le=300, description="seconds that opening a connection to Graph may take"
    )
    reply_timeout_s: float = Field(
        default=60,
        ge=0.1,
        le=3600,
        description="seconds that Graph may take over a reply, then 504; reads of a late batch are asked again alone",
    )


class Batch(Section):
    """How reads that differ share one call to Graph."""

    enabled: bool = Field(default=True, description="whether reads ride in batches at all")
    slots: int = Field(default=50, ge=1, le=50, description="reads in one batch, at most; Graph takes no more than 50")
    window_ms: float = Field(
        default=5,
        ge=0,
        le=1000,
        description="milliseconds that a read waits for company; one that finds nothing in flight waits for nobody",
    )
    in_flight: int = Field(default=8, ge=1, le=1000, description="batches of one group that Graph works on at once")
    queue: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="reads of one group that may wait; a caller beyond them gets a 503 with Retry-After",
    )
    group: Literal["shared", "token"] = Field(
        default="shared",
        description="shared: tokens ride together, each slot with its own; token: a batch holds one token",
    )


class Cache(Section):
    """What is kept, where, and how old it may be served."""

    dir: Folder = Field(
        default_factory=lambda: _user_folder(platformdirs.user_cache_path),
        description="the folder of the entries on disk",
    )
    memory_mb: int = Field(default=64, ge=0, le=1_048_576, description="megabytes of entries in memory; 0 for none")
    disk_mb: Size = Field(
        default=1024, ge=0, le=1_048_576, description="megabytes of entries on disk; 0 keeps them in memory only"
    )
    max_body_kb: int = Field(
        default=2048, ge=1, le=102_400, description="kilobytes of the largest body that is kept; larger ones pass by"
    )
    sealed: bool = Field(
        default=True, description="whether entries are encrypted under the installation's key and the caller's token"
    )
    key_file: KeyFile = Field(
        default_factory=lambda: _user_folder(platformdirs.user_state_path) / "key",
        description="the installation's secret, 32 bytes, made on first start; `ephemeral` keeps one in memory only",
    )
    fresh_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds that an entry is served without asking Graph; 0 asks always"
    )
    stale_if_error_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds beyond fresh_s that an entry may stand in when Graph fails"
    )
    stale_while_revalidate_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds beyond fresh_s that an entry is served while Graph is asked"
    )
    stretch_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds up to which fresh_s is stretched as limits come near; 0 never"
    )

    @field_validator("key_file")
    @classmethod
    def _key_apart(cls, value: Path | str, info: ValidationInfo) -> Path | str:
        """Whoever may copy or purge the entries has no business with the key."""
        folder = info.data.get("dir")
        if folder and isinstance(value, Path) and _real(value).is_relative_to(_real(folder)):
            raise ValueError("must lie outside cache.dir")
        return value


class Quota(Section):
    """How calls are spared as Graph's limits come near."""

    enabled: bool = Field(default=True, description="whether anything is done about limits, besides telling of them")
    group: Literal["token", "shared"] = Field(
        default="token",
        description="token: each token's limits are its own; shared: all tokens are of one app and share its limits",
    )
    watch_pct: float = Field(
        default=60, ge=1, le=100, description="percent used from which freshness is stretched, where stretch_s allows"
    )
    spare_pct: float = Field(
        default=80, ge=1, le=100, description="percent used from which reads of low priority wait their turn"
    )
    stop_pct: float = Field(
        default=100, ge=1, le=100, description="percent used from which what is held answers, where a rule allows"
    )
    probe_s: float = Field(
        default=30,
        ge=0.1,
        le=3600,
        description="seconds until a stopped limit is tried again, if Graph does not say; doubled by each failure",
    )
    longest_wait_s: float = Field(
        default=30, ge=0, le=3600, description="seconds that a read of low priority waits, at most; then it goes"
    )

    @field_validator("spare_pct")
    @classmethod
    def _spare_after_watch(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("watch_pct", 0):
            raise ValueError("must not lie below quota.watch_pct")
        return value

    @field_validator("stop_pct")
    @classmethod
    def _stop_after_both(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("spare_pct", 0) or value <= info.data.get("watch_pct", 0):
            raise ValueError("must lie above quota.watch_pct, and not below quota.spare_pct")
        return value


class Merge(Section):
    """How reads of one node or edge that differ in their fields share one call."""

    enabled: bool = Field(
        default=False,
        description="whether they are asked as one and answered from what is held for more fields or single ids",
    )


class Rule(Section):
    """One of `rules`: what may be done with the reads that it matches; what it leaves out is as in `cache`."""

    path: Glob = Field(description="a glob over the path without its version, such as /act_*/insights")
    fields: Names = Field(default=(), description="only reads that ask for no other fields than these; none: any read")
    version: RuleVersion = Field(
        default="", description="only reads that ask for this version, such as v25.0; none: any"
    )
    fresh_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.fresh_s")
    stale_if_error_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stale_if_error_s")
    stale_while_revalidate_s: float | None = Field(
        default=None, ge=0, le=YEAR_S, description="as cache.stale_while_revalidate_s"
    )
    stretch_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stretch_s")
    priority: int | None = Field(
        default=None, ge=0, le=7, description="the urgency of reads that name none: 0 first, 5 to 7 have time"
    )
    batch: bool = Field(default=True, description="false: these reads go to Graph alone")
    cache: bool = Field(default=True, description="false: nothing of these reads is kept")
    merge: bool | None = Field(default=None, description="as merge.enabled")


Rules = Annotated[tuple[Rule, ...], BeforeValidator(_tables)]


class Paging(Section):
    """The links to further pages inside replies."""

    rewrite: bool = Field(default=True, description="whether paging links to Graph come back pointing at the sidecar")


class Intercept(Section):
    """The ways in of programs that know no other address for Graph than its own."""

    listen: MaybeListen = Field(
        default="",
        description="host and port for programs that a hosts file or iptables leads here; they begin with TLS",
    )
    tunnel: Tunnels = Field(
        default=("any",),
        description="hosts besides Graph's that CONNECT may reach, unseen: any (while listening on loopback), none, or "
        "a list",
    )
    ca_dir: Folder = Field(
        default_factory=lambda: _user_folder(platformdirs.user_state_path) / "ca",
        description="the folder of the authority that signs in Graph's name, made when first wanted",
    )


class Log(Section):
    """What is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is told")
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines elsewhere"
    )
    replies: bool = Field(default=True, description="whether each reply is a line, at info")


class Webhooks(Section):
    """Where Meta tells of changes, so that what is held ends with them."""

    listen: MaybeListen = Field(
        default="",
        description="host and port of their own, where /webhooks is all there is; empty: /webhooks on admin",
    )
    verify_token_file: TokenFile = Field(
        default="", description="holds the token that was given to Meta with the address; for the handshake"
    )
    secret_file: TokenFile = Field(
        default="", description="holds the app's secret, with which Meta signs what it tells; none: nothing is taken"
    )
    extend_s: float = Field(
        default=0,
        ge=0,
        le=YEAR_S,
        description="seconds that what Meta tells of may be fresh, where a rule calls it fresh at all; 0 for no longer",
    )


def _collector(value: str) -> str:
    if value and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._/-]*)?", value):
        raise ValueError("must be http:// or https://, a host and a path, such as http://127.0.0.1:4318/v1/traces")
    return value


class Traces(Section):
    """Where spans go; needs the extra `traces`."""

    endpoint: Annotated[str, AfterValidator(_collector)] = Field(
        default="", description="an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces; empty: no traces"
    )


class Settings(Section):
    """Everything that can be set; it looks at nothing outside, only the command line hands in file and environment."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 8080), description="host and port for applications; every path belongs to Graph"
    )
    admin: Listen = Field(
        default=Address("127.0.0.1", 9180), description="host and port for the sidecar's own paths: probes and counts"
    )
    admin_hosts: Hosts = Field(
        default=(), description="names that the admin listener may be called by, besides localhost and any IP address"
    )
    admin_token_file: TokenFile = Field(
        default="", description="holds the token that all but probes then need there; empty: only this machine may POST"
    )
    drain_s: float = Field(default=25, ge=0, le=3600, description="seconds that open requests get at SIGTERM")
    drain_grace_s: float = Field(
        default=0, ge=0, le=3600, description="seconds before that in which the listener still takes new requests"
    )
    rules: Rules = Field(default=(), description="tables of path, fields and what holds for them; the first match wins")
    listener: Listener = Listener()
    upstream: Upstream = Upstream()
    batch: Batch = Batch()
    cache: Cache = Field(default_factory=Cache)
    quota: Quota = Quota()
    merge: Merge = Merge()
    paging: Paging = Paging()
    webhooks: Webhooks = Webhooks()
    intercept: Intercept = Field(default_factory=Intercept)
    log: Log = Log()
    traces: Traces = Traces()

    @field_validator("admin")
    @classmethod
    def _admin_apart(cls, value: Address, info: ValidationInfo) -> Address:
        """Every path of the first listener belongs to Graph, so ours need another."""
        if value.port and value == info.data.get("listen"):
            raise ValueError("must differ from listen")
        return value

    @field_validator("intercept")
    @classmethod
    def _intercept_apart(cls, value: Intercept, info: ValidationInfo) -> Intercept:
        """What begins with TLS cannot share a port with what does not."""
        others = (info.data.get("listen"), info.data.get("admin"))
        if isinstance(value.listen, Address) and value.listen.port and value.listen in others:
            raise ValueError("listen must differ from the listen and admin of the whole")
        return value


LIVE = frozenset(
    {
        "admin_hosts",
        "admin_token_file",
        "batch",
        "cache.fresh_s",
        "cache.stale_if_error_s",
        "cache.stale_while_revalidate_s",
        "cache.stretch_s",
        "drain_grace_s",
        "drain_s",
        "log",
        "merge",
        "paging",
        "quota.enabled",
        "quota.longest_wait_s",
        "quota.probe_s",
        "quota.spare_pct",
        "quota.stop_pct",
        "quota.watch_pct",
        "rules",
    }
)
"""Settings, and whole sections, that a reload changes while the sidecar runs; the others wait for its next start."""


def is_live(name: str) -> bool:
    """Whether a reload changes the setting."""
    return name in LIVE or name.partition(".")[0] in LIVE


def section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of the settings below *field*, if it has any."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def names(model: type[BaseModel] = Settings, prefix: str = "") -> Mapping[str, FieldInfo]:
    """Every setting by its dotted name, in the order of the model."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        below = section(field)
        found |= names(below, f"{prefix}{name}.") if below else {prefix + name: field}
    return found
