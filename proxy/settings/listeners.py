"""Settings of the listeners: for applications, for transparent mode, for Meta's webhooks."""

from __future__ import annotations

import platformdirs
from pydantic import Field

from proxy.settings.addresses import MaybeListen
from proxy.settings.base import YEAR_S, Section
from proxy.settings.types import Folder, TokenFile, Tunnels, user_folder


class ListenerSettings(Section):
    """Limits for the connections of callers."""

    connections: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="open connections, tunnels included; the next caller gets 503 with Retry-After",
    )
    head_timeout_s: float = Field(
        default=10,
        ge=0.1,
        le=3600,
        description="seconds from the first byte of a request to the end of its head, then 408; also from CONNECT "
        "to the start of TLS",
    )
    stall_timeout_s: float = Field(
        default=60,
        ge=0.1,
        le=3600,
        description="seconds without progress in a request body, or in a reply that its caller does not read, "
        "until the connection ends",
    )
    idle_timeout_s: float = Field(
        default=75,
        ge=0.1,
        le=86_400,
        description="seconds that a connection stays open between requests, and a tunnel without traffic",
    )
    buffer_mb: int = Field(
        default=64,
        ge=2,
        le=1_048_576,
        description="megabytes of all request bodies in memory, and as many of replies that callers have not "
        "read; a body beyond it is streamed, and of unread replies the one that waited longest is cut "
        "off",
    )
    lag_s: float = Field(
        default=0.6,
        ge=0,
        le=3600,
        description="seconds that reads may wait for a busy processor; while more come than are answered and a new GET "
        "would wait longer, new GETs get 503 with Retry-After at once; a burst is answered whole; 0 never refuses",
    )


class InterceptSettings(Section):
    """Transparent mode: programs that call Graph by its own name."""

    listen: MaybeListen = Field(
        default="",
        description="host and port for programs that a hosts file or iptables leads to the sidecar; they begin "
        "with TLS; empty for none",
    )
    tunnel: Tunnels = Field(
        default=("any",),
        description="other hosts that CONNECT may reach: any (in force only while listen is on loopback), none, "
        "or a list of HOST and HOST:PORT",
    )
    ca_dir: Folder = Field(
        default_factory=lambda: user_folder(platformdirs.user_state_path) / "ca",
        description="folder of the certificate authority for Graph's hosts: key and certificate in one file of "
        "mode 0600, made when first needed",
    )


class WebhooksSettings(Section):
    """Meta's change notifications, which end the freshness of the objects that they name."""

    listen: MaybeListen = Field(
        default="",
        description="host and port of a listener that has the path /webhooks alone; empty puts /webhooks on the "
        "admin listener",
    )
    verify_token_file: TokenFile = Field(
        default="",
        description="file with the verify token, 16 or more characters, as entered in Meta's App Dashboard; "
        "empty for no GET /webhooks",
    )
    secret_file: TokenFile = Field(
        default="",
        description="file with the app secret, which signs each notification; empty for no POST /webhooks",
    )
    extend_s: float = Field(
        default=0,
        ge=0,
        le=YEAR_S,
        description="seconds that an answer may be fresh if a rule calls it fresh and Meta notifies of changes "
        "to its object; 0 adds nothing",
    )
