"""Reads and writes form bodies: urlencoded, JSON or multipart."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from proxy.core.graph.errors import UNREADABLE
from proxy.core.http.headers import head_bytes, media_type
from proxy.core.memory.json_text import is_heavy, number
from proxy.core.model import Redacted
from proxy.core.routing.query import form, split_pairs
from proxy.shell.http.multipart import split_parts
from proxy.shell.http.turns import pause

LARGEST_FORM = 8 * 2**20
"""Bytes of a body that are looked into; a larger one (big files beside a batch) is streamed as it is."""

MOST_PARAMETERS = 1000
"""Parameters of a body that is looked into: as many as PHP takes."""

_SLICE = 2**14  # bytes that are decoded in one turn of the event loop, about a millisecond at the most
_PARTS_A_SLICE = 50

LONGEST_SHORT = 2 * _SLICE
"""Bytes of a body that is read at once."""

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class File:
    """A part of a multipart body that is not a parameter."""

    fields: Mapping[str, str]  # the part's own header fields
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """The parameters of a body, tokens among them, and its files by the names of their parts."""

    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    files: Mapping[str, File] = field(default_factory=dict)


def read_short_form(raw: bytes, fields: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Return the parameters of the form in *raw*, as `read_form` does, at once; None where that takes long.

    Also None for a form with files, a compressed body, or a body that is no form.
    """
    kind = media_type(fields.get("content-type", ""))
    if len(raw) > LONGEST_SHORT or "content-encoding" in fields or kind.startswith("multipart/"):
        return None
    try:
        found = _not_urlencoded(raw, kind)
        return dict(split_pairs(_text(raw).strip())) if found is None else found
    except (ValueError, *UNREADABLE):
        return None


async def read_form(raw: bytes, fields: Mapping[str, str]) -> Form | None:
    """Return the form in *raw*, by its header *fields* (names in lower case); None if it is no form or too large.

    A long body is read in slices, in turns of the event loop.
    """
    if len(raw) > _SLICE:
        await pause()  # several layers read the same form
    try:
        body = _inflated(raw) if fields.get("content-encoding", "").lower() == "gzip" else raw
        kind = media_type(fields.get("content-type", ""))
        if kind.startswith("multipart/"):
            return await _read_multipart(body, fields["content-type"])
        return Form(await _parameters(body, kind))
    except (zlib.error, ValueError, *UNREADABLE):
        return None


def _inflated(raw: bytes) -> bytes:
    """Return *raw* without gzip, which mobile SDKs send. Raises ValueError for a body that is too large to parse."""
    unpack = zlib.decompressobj(wbits=31)
    body = unpack.decompress(raw, LARGEST_FORM)
    if not unpack.eof:
        raise ValueError("larger than is looked into")
    return body


async def _parameters(body: bytes, kind: str) -> dict[str, Any]:
    found = _not_urlencoded(body, kind)
    return await _urlencoded(_text(body).strip()) if found is None else found


def _not_urlencoded(body: bytes, kind: str) -> dict[str, Any] | None:
    """Return the parameters of a JSON *body*; None for an urlencoded one, which some clients send without a type.

    Raises ValueError for more than is looked into.
    """
    if kind.endswith("json") or body.lstrip()[:1] == b"{":
        if is_heavy(body):
            raise ValueError("more JSON than is looked into")
        return _json_object(body)
    if kind not in {"", FORM, "text/plain"}:
        return {}
    if body.count(b"&") >= MOST_PARAMETERS:
        raise ValueError("more parameters than are looked into")
    return None


_json_object = msgspec.json.Decoder(dict[str, Any], float_hook=number).decode


def _text(raw: bytes) -> str:
    """Return *raw* as text. Raises ValueError if a long one is not UTF-8, which would take long to keep."""
    return raw.decode("utf-8", "surrogateescape" if len(raw) <= 64 * _SLICE else "strict")


async def _urlencoded(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    done = 0
    for piece in text.split("&"):
        if len(piece) <= _SLICE:
            found.update(split_pairs(piece))
        else:
            name, _, value = piece.partition("=")
            found[await _unquoted(name)] = await _unquoted(value)
        done += len(piece)
        if done > _SLICE:
            await pause()
            done = 0
    return found


async def _unquoted(text: str) -> str:
    """Returns a long name or value decoded as by `split_pairs`, slice by slice."""
    raw = text.replace("+", " ").encode("utf-8", "surrogateescape")
    pieces, start = [], 0
    while start < len(raw):
        end = start + _SLICE
        if (mark := raw.find(b"%", end - 2, end)) >= 0:  # no slice ends within an escape
            end = mark
        pieces.append(unquote_to_bytes(raw[start:end]))
        start = end
        await pause()
    return _text(b"".join(pieces))


async def _read_multipart(body: bytes, content_type: str) -> Form:
    parameters: dict[str, Any] = {}
    files: dict[str, File] = {}
    for at, part in enumerate(split_parts(body, content_type)):
        if part.is_file:
            files[part.name] = File(part.fields, part.content)
        else:
            parameters[part.name] = _text(part.content)
        if at % _PARTS_A_SLICE == 0:
            await pause()
    return Form(parameters, files)


class EncodedForm(Redacted, frozen=True, gc=False):
    """A form body and its Content-Type."""

    hidden = ("body",)

    kind: str
    body: bytes


def write_form(parameters: Mapping[str, str], files: Iterable[File] = ()) -> EncodedForm:
    """Return *parameters* as a form, urlencoded unless there are *files*."""
    files = tuple(files)
    if not files:
        return EncodedForm(FORM, form(parameters))
    boundary, pieces = token_hex(16), list[bytes]()
    for name, value in parameters.items():
        content = value.encode("utf-8", "surrogateescape")
        pieces += _part(boundary, {"Content-Disposition": f'form-data; name="{name}"'}, content)
    for file in files:
        pieces += _part(boundary, file.fields, file.content)
    return EncodedForm(f"multipart/form-data; boundary={boundary}", b"".join([*pieces, f"--{boundary}--\r\n".encode()]))


def _part(boundary: str, fields: Mapping[str, str], content: bytes) -> tuple[bytes, bytes, bytes]:
    return head_bytes(f"--{boundary}", fields.items()), content, b"\r\n"
