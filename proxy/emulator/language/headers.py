"""The header fields of replies, single and in a batch, as captures show them.

developers.facebook.com, "Marketing API: ETags" and "Debug Requests".
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.emulator.language.calls import Channel, Headers, Reply

JSON = "application/json; charset=UTF-8"
SCRIPT = "text/javascript; charset=UTF-8"

_NEVER_KEPT = [
    ("Expires", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("Cache-Control", "private, no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
]
_REFUSED = [
    ("Expires", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
]
_STRICT = ("Strict-Transport-Security", "max-age=15552000; preload")
_ANYWHERE = ("Access-Control-Allow-Origin", "*")
_VARY = ("Vary", "Origin, Accept-Encoding")
_COOKIE = ("Set-Cookie", "datr=emulated; expires=Wed, 01-Jan-2031 00:00:00 GMT; path=/; domain=.facebook.com; httponly")
_QUIC = ("Alt-Svc", 'h3=":443"; ma=86400')
_REVISION = ("x-fb-rev", "1019876543")


def of_success(version: str, usage: Headers, content_type: str, etag: str | None, *, cookie: bool) -> Headers:
    """The header fields of a success, in the order of the captures."""
    found = [*_NEVER_KEPT, _STRICT, ("Facebook-API-Version", version), _ANYWHERE, *usage, _VARY]
    if cookie:
        found.append(_COOKIE)
    found.append(("Content-Type", content_type))
    if etag:
        found.append(("ETag", etag))
    return found


def without_outer_fields(found: Headers) -> Headers:
    """*found* without the fields that the outer reply of a batch has too."""
    return [field for field in found if field not in (_STRICT, _ANYWHERE, _VARY)]


def of_not_modified(usage: Headers, content_type: str, etag: str | None) -> Headers:
    """The header fields of a 304: the documented sample repeats these and shows no ETag."""
    found = [_ANYWHERE, *_NEVER_KEPT, ("Content-Type", content_type), *usage]
    return [*found, ("ETag", etag)] if etag else found


def of_error(version: str, usage: Headers, content_type: str, challenge: str) -> Headers:
    """The header fields of an error: never an ETag."""
    refused = ("WWW-Authenticate", challenge)
    return [refused, *_REFUSED, _STRICT, ("Facebook-API-Version", version), _ANYWHERE, *usage, _VARY,
            ("Content-Type", content_type)]  # fmt: skip


def of_outer(version: str, usage: Headers, content_type: str) -> Headers:
    """The header fields of a batch's outer reply."""
    served = ("Facebook-API-Version", version)
    return [*_NEVER_KEPT, _STRICT, served, _ANYWHERE, *usage, _VARY, ("Content-Type", content_type)]


def preflight(fields: Mapping[str, str]) -> Reply:
    """The answer to a browser's preflight (Fetch section 4.8); it counts against no limit."""
    wanted = fields.get("access-control-request-headers", "")
    allowed = [("Access-Control-Allow-Headers", wanted)] if wanted else []
    methods = ("Access-Control-Allow-Methods", "GET, POST, DELETE")
    return Reply(200, [_ANYWHERE, methods, *allowed, ("Access-Control-Max-Age", "600"), _VARY], "")


def with_trace_fields(headers: Headers, trace: str) -> Headers:
    """*headers* with the fields that Meta's front end adds, such as trace ids; slots have none of them."""
    marks = [
        ("x-fb-request-id", f"A{trace[:22]}"),
        ("x-fb-trace-id", trace[:11]),
        _REVISION,
        ("x-fb-debug", f"{trace}{trace}=="),
        _QUIC,
    ]
    return headers + marks


def content_type(channel: Channel, *, script: bool) -> str:
    """The type of a body: items of a batch say text/javascript even when they hold plain JSON."""
    return SCRIPT if script or channel == "batch" else JSON
