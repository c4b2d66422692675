"""Reads request bodies: forms, multipart, JSON, text without a type; large and binary bodies are only counted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.web import BaseRequest

from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Upload
from proxy.emulator.language.query import Params, parse_query

_CHUNK = 65536
_OPAQUE = ("application/octet-stream", "video/", "image/", "audio/", "application/zip")


@dataclass(slots=True)
class Body:
    """The content of a request body."""

    params: Params = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)
    opaque: Upload | None = None
    """A body that was not parsed because it is too large or binary."""
    size: int = 0


async def read_body(request: BaseRequest, stream_over: int) -> Body:
    """Read the body of *request* with flat memory."""
    if not request.body_exists:
        return Body()
    if request.content_type.startswith("multipart/"):
        return await _multipart(request)
    kept, flood = await _read_all(request, _limit(request, stream_over))
    if flood:
        return Body(opaque=flood, size=flood.size)
    return Body(params=parse_params(kept, request.content_type), size=len(kept))


def parse_params(raw: bytes, content_type: str) -> Params:
    """The parameters in a body; without a usable Content-Type its syntax decides how it is parsed."""
    text = raw.decode("utf-8", "replace").strip()
    if content_type == "application/x-www-form-urlencoded":
        return parse_query(text)
    if content_type.endswith("json") or text[:1] in ("{", "["):
        return _from_json(text)
    return parse_query(text) if "=" in text else {}


def _from_json(text: str) -> Params:
    try:
        value = loose_json.loads(text) if text else {}
    except ValueError:
        return parse_query(text) if "=" in text else {}
    return value if isinstance(value, dict) else {}


def _limit(request: BaseRequest, stream_over: int) -> int:
    return 0 if request.content_type.startswith(_OPAQUE) and "Content-Type" in request.headers else stream_over


async def _read_all(request: BaseRequest, keep: int) -> tuple[bytes, Upload | None]:
    """Read to the end, keeping the bytes unless they are more than *keep*."""
    kept, digest, size = bytearray(), None, 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size <= keep:
            kept += chunk
            continue
        digest = digest or hashlib.sha256(kept)
        digest.update(chunk)
        kept.clear()
    return bytes(kept), Upload("", size, digest.hexdigest()) if digest is not None else None


async def _multipart(request: BaseRequest) -> Body:
    body = Body()
    async for part in MultipartReader(request.headers, request.content):
        if isinstance(part, BodyPartReader):
            await _read_part(part, body)
    return body


async def _read_part(part: BodyPartReader, body: Body) -> None:
    name = part.name or ""
    if part.filename is None and not _is_opaque(part):
        raw = bytes(await part.read(decode=True))
        body.params[name] = raw.decode("utf-8", "replace")
        body.size += len(raw)
        return
    upload = await _read_upload(part)
    body.files[name] = upload
    body.size += upload.size


def _is_opaque(part: BodyPartReader) -> bool:
    return part.headers.get("Content-Type", "").startswith(_OPAQUE)


async def _read_upload(part: BodyPartReader) -> Upload:
    digest, size = hashlib.sha256(), 0
    while chunk := await part.read_chunk(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return Upload(part.filename or part.name or "", size, digest.hexdigest())
