"""Everything that can be set."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.addresses import Address, Listen
from proxy.settings.files import TokenFile
from proxy.settings.graph import Batch, Merge, Paging, Quota, Upstream
from proxy.settings.held import Cache, Rules
from proxy.settings.kinds import Hosts
from proxy.settings.section import Section
from proxy.settings.telling import Log, Traces
from proxy.settings.ways_in import Intercept, Listener, Webhooks


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
    core_dumps: bool = Field(
        default=False, description="whether the system may write this process's memory, tokens and all, to a core dump"
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
