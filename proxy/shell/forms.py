"""Forms: the body of a POST that may carry a batch is read, and one is written; urlencoded, JSON or multipart."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import aiohttp
import msgspec
from aiohttp.base_protocol import BaseProtocol

from proxy.core.errors import UNREADABLE
from proxy.core.headers import media_type, written
from proxy.core.messages import Discreet
from proxy.core.normal import form, split_pairs

LARGEST_BODY = 8 * 2**20
"""Bytes of a body that are looked into; a larger one (big files beside a batch) is streamed as it is."""

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class File:
    """A part of a multipart body that is no parameter."""

    fields: Mapping[str, str]  # the part's own header fields
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """The parameters of a body, tokens among them, and its files by the names of their parts."""

    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    files: Mapping[str, File] = field(default_factory=dict)


async def read_form(raw: bytes, fields: Mapping[str, str]) -> Form | None:
    """The form that *raw* is, by its header *fields* (names in lower case); None for what is none."""
    try:
        body = _inflated(raw) if fields.get("content-encoding", "").lower() == "gzip" else raw
        kind = media_type(fields.get("content-type", ""))
        if kind.startswith("multipart/"):
            return await _read_multipart(body, fields["content-type"])
        return Form(_parameters(body, kind))
    except (zlib.error, ValueError, aiohttp.ClientError, *UNREADABLE):
        return None


def _inflated(raw: bytes) -> bytes:
    """Mobile SDKs compress what they post. Raises ValueError for more than is looked into."""
    unpack = zlib.decompressobj(wbits=31)
    body = unpack.decompress(raw, LARGEST_BODY)
    if not unpack.eof:
        raise ValueError("larger than is looked into")
    return body


def _parameters(body: bytes, kind: str) -> dict[str, Any]:
    """JSON where it is called so or looks so; else urlencoded, which some clients send without calling it anything."""
    if kind.endswith("json") or body.lstrip()[:1] == b"{":
        return msgspec.json.decode(body, type=dict[str, Any])
    if kind not in {"", FORM, "text/plain"}:
        return {}
    return dict(split_pairs(body.decode("utf-8", "surrogateescape").strip()))


async def _read_multipart(body: bytes, content_type: str) -> Form:
    stream = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), 2 * LARGEST_BODY)
    stream.feed_data(body)
    stream.feed_eof()
    parameters: dict[str, Any] = {}
    files: dict[str, File] = {}
    async for part in aiohttp.MultipartReader({"Content-Type": content_type}, stream):
        if not isinstance(part, aiohttp.BodyPartReader) or not part.name:
            raise ValueError("a part without a name")
        content = bytes(await part.read())
        if part.filename is None and "Content-Transfer-Encoding" not in part.headers:
            parameters[part.name] = content.decode("utf-8", "surrogateescape")
        else:
            files[part.name] = File(dict(part.headers), content)
    return Form(parameters, files)


class Written(Discreet, frozen=True, gc=False):
    """A body, and what it is (its Content-Type)."""

    hidden = ("body",)

    kind: str
    body: bytes


def write_form(parameters: Mapping[str, str], files: Iterable[File] = ()) -> Written:
    """A body with *parameters*, urlencoded unless there are *files*."""
    files = tuple(files)
    if not files:
        return Written(FORM, form(parameters))
    boundary, pieces = token_hex(16), list[bytes]()
    for name, value in parameters.items():
        content = value.encode("utf-8", "surrogateescape")
        pieces += _part(boundary, {"Content-Disposition": f'form-data; name="{name}"'}, content)
    for file in files:
        pieces += _part(boundary, file.fields, file.content)
    return Written(f"multipart/form-data; boundary={boundary}", b"".join([*pieces, f"--{boundary}--\r\n".encode()]))


def _part(boundary: str, fields: Mapping[str, str], content: bytes) -> tuple[bytes, bytes, bytes]:
    return written(f"--{boundary}", fields.items()), content, b"\r\n"
