"""The types of the settings' values, each with its validation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, BeforeValidator

from proxy.core.routing.rules import names_version
from proxy.settings.addresses import HOST_NAME, is_host, is_ip
from proxy.settings.base import NAME


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("must be a path")
    try:
        return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - Path has no lexical normal form
    except RuntimeError:
        raise ValueError("must be an absolute path, since this user has no home directory") from None


def _key_file(value: object) -> Path | str:
    return "ephemeral" if value == "ephemeral" else _path(value)


def _token_file(value: object) -> Path | str:
    return "" if value == "" else _path(value)


Folder = Annotated[Path, BeforeValidator(_path)]
TokenFile = Annotated[Path | Literal[""], BeforeValidator(_token_file)]
KeyFile = Annotated[Path | Literal["ephemeral"], BeforeValidator(_key_file)]


def user_folder(find: Callable[[str], Path]) -> Path:
    """The sidecar's folder of this user, as *find* returns it."""
    try:
        return find(NAME)
    except RuntimeError:
        return Path("~") / NAME  # `_path` refuses this with its own message, unless a path is set


def has_home() -> bool:
    """Whether this user has a folder for the state of programs."""
    return user_folder(platformdirs.user_state_path).is_absolute()


def resolved(path: Path) -> Path:
    """*path* with all links resolved; unlike Path.resolve, realpath does not raise on a loop of links."""
    return Path(os.path.realpath(path))


# A field value of RFC 9110 in plain ASCII: no control characters, no white space at the ends.
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")


def _origin(value: str) -> str:
    shape = "must be http:// or https:// and a host, perhaps a port, and nothing more"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValueError(shape) from None
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    netloc = host if port is None else f"{host}:{port}"
    # Anything else in the URL (a path, a query, a user, a space) makes it no origin.
    if url.scheme not in {"http", "https"} or not is_host(host) or port == 0:
        raise ValueError(shape)
    if value.lower() not in {f"{url.scheme}://{netloc}", f"{url.scheme}://{netloc}/"}:
        raise ValueError(shape)
    return f"{url.scheme}://{netloc}"


def _host(value: str) -> str:
    if not HOST_NAME.fullmatch(value.lower()):
        raise ValueError("must be a host name such as graph.facebook.com, without scheme, port or path")
    return value.lower()


def _user_agent(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("must be a legal header value: up to 256 plain ASCII characters, no space at either end")
    return value


def _ip_and_port(value: str) -> str:
    """Check an address of a server: IP or IP:PORT."""
    host, colon, port = (
        value.rpartition(":") if re.fullmatch(r"\[.+\]:[0-9]+|[^:]+:[0-9]+", value) else (value, "", "0")
    )
    bare = host.removeprefix("[").removesuffix("]")
    if not is_ip(bare) or not 0 <= int(port) <= 65535 or (colon and not int(port)):
        raise ValueError(
            "must be an IP address and perhaps a port, such as 1.1.1.1, 10.0.0.2:5353 or [2606:4700::1]:53"
        )
    ip = f"[{bare}]" if ":" in bare else bare
    return f"{ip}:{port}" if colon else ip


def _refuse_server(value: str) -> str:
    return _ip_and_port(value) if value else ""


def _reachable(value: str) -> str:
    if value == "any":
        return value
    host, _, port = value.rpartition(":") if re.search(r":[0-9]{1,5}$", value) else (value, "", "443")
    if not is_host(host) or not 1 <= int(port) <= 65535:
        raise ValueError("must be any, none, or hosts such as api.example.com and perhaps their ports")
    return value.lower()


def _collector(value: str) -> str:
    if value and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._/-]*)?", value):
        raise ValueError("must be http:// or https://, a host and a path, such as http://127.0.0.1:4318/v1/traces")
    return value


def _glob(value: str) -> str:
    if not value or re.search(r"[\s#]", value) or "//" in value or names_version(value):
        raise ValueError("must be a glob over the path without its version, such as /act_*/insights")
    return value


def _version(value: str) -> str:
    if value and not re.fullmatch(r"v[0-9]{1,4}\.[0-9]{1,4}", value):
        raise ValueError("must be a version of Graph's, such as v25.0")
    return value


def _tunnels(value: object) -> object:
    found = _strings(value)
    return () if found == ("none",) else found


def _strings(value: object) -> object:
    """A list, or text with commas, as a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return _split_items(value, "must be a list of strings")


def tables(value: object) -> object:
    """A list as a tuple; the model checks each item."""
    return _split_items(value, "must be a list of tables, each with a path")


def _split_items(value: object, otherwise: str) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(otherwise)  # noqa: TRY004 - pydantic collects ValueError
    return tuple(value)


Origin = Annotated[str, AfterValidator(_origin)]
Host = Annotated[str, AfterValidator(_host)]
HostList = Annotated[tuple[Host, ...], BeforeValidator(_strings)]
UserAgent = Annotated[str, AfterValidator(_user_agent)]
Server = Annotated[str, AfterValidator(_ip_and_port)]
NoServer = Annotated[str, AfterValidator(_refuse_server)]
Servers = Annotated[tuple[Server, ...], BeforeValidator(_strings)]
Reachable = Annotated[str, AfterValidator(_reachable)]
Tunnels = Annotated[tuple[Reachable, ...], BeforeValidator(_tunnels)]
Collector = Annotated[str, AfterValidator(_collector)]
Glob = Annotated[str, AfterValidator(_glob)]
RuleVersion = Annotated[str, AfterValidator(_version)]
HostNames = Annotated[tuple[str, ...], BeforeValidator(_strings)]
# An empty value is how a compose file or a chart says "none".
SizeInMb = Annotated[int, BeforeValidator(lambda value: 0 if value == "" else value)]
