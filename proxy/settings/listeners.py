"""Who comes in: applications, programs that know nothing of us, and Meta."""

from __future__ import annotations

import platformdirs
from pydantic import Field

from proxy.settings.addresses import MaybeListen
from proxy.settings.base import YEAR_S, Section
from proxy.settings.types import Folder, TokenFile, Tunnels, user_folder


class ListenerSettings(Section):
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
    buffer_mb: int = Field(
        default=64,
        ge=2,
        le=1_048_576,
        description="megabytes of all bodies that are being read, and as many of answers that wait to be taken",
    )
    lag_s: float = Field(
        default=0.25,
        ge=0,
        le=3600,
        description="seconds that a read may take the sidecar itself: while it would take longer, GETs get a 503 "
        "before they are read; 0: never",
    )


class InterceptSettings(Section):
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
        default_factory=lambda: user_folder(platformdirs.user_state_path) / "ca",
        description="the folder of the authority that signs in Graph's name, made when first wanted",
    )


class WebhooksSettings(Section):
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
