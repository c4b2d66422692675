"""Settings of the store that replicas share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from proxy.core.shared.location import read_location
from proxy.settings.base import Section
from proxy.settings.types import TokenFile


def _url(value: str) -> str:
    if value:
        read_location(value)
    return value


Url = Annotated[str, AfterValidator(_url)]


class SharedSettings(Section):
    """A Valkey or Redis that makes several replicas behave as one: see docs/fleet.md."""

    url: Url = Field(
        default="",
        description="address of the store: valkey:// or redis://, valkeys:// or rediss:// for TLS, unix://, or "
        "valkey+sentinel://host1,host2/NAME; empty for none",
    )
    username_file: TokenFile = Field(
        default="", description="file with the user name for the store; read again when the store refuses it"
    )
    password_file: TokenFile = Field(
        default="", description="file with the password for the store; read again when the store refuses it"
    )
    ca_file: TokenFile = Field(
        default="", description="certificates that a store with TLS is checked against; empty for those of the system"
    )
    timeout_ms: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="milliseconds that a read waits for the store in all; then the read goes on without the store",
    )
    alone: Literal["revalidate", "fresh"] = Field(
        default="revalidate",
        description="while the store is away: revalidate lets no entry be fresh, fresh goes by the clock",
    )
    entry_kb: int = Field(
        default=256,
        ge=1,
        le=102_400,
        description="kilobytes of the largest entry in the store; larger ones stay on the disk of their replica",
    )
