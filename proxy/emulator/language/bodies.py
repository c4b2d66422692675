"""Request bodies: forms, multipart, JSON, unlabelled text, and floods that are only counted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.web import BaseRequest

from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Upload
from proxy.emulator.language.query import Params, parsed

_CHUNK = 65536
_OPAQUE = ("application/octet-stream", "video/", "image/", "audio/", "application/zip")


@dataclass(slots=True)
class Body:
    """What came with a request."""

    params: Params = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)
    flood: Upload | None = None
    """A body that was too large, or of a type, to look into."""
    size: int = 0


async def body_of(request: BaseRequest, stream_over: int) -> Body:
    """Read the body of *request* with flat memory."""
    if not request.body_exists:
        return Body()
    if request.content_type.startswith("multipart/"):
        return await _multipart(request)
    kept, flood = await _drained(request, _limit(request, stream_over))
    if flood:
        return Body(flood=flood, size=flood.size)
    return Body(params=params_in(kept, request.content_type), size=len(kept))


def params_in(raw: bytes, content_type: str) -> Params:
    """The parameters in a body; one without a usable type is recognised by its look."""
    text = raw.decode("utf-8", "replace").strip()
    if content_type == "application/x-www-form-urlencoded":
        return parsed(text)
    if content_type.endswith("json") or text[:1] in ("{", "["):
        return _from_json(text)
    return parsed(text) if "=" in text else {}


def _from_json(text: str) -> Params:
    try:
        value = loose_json.loads(text) if text else {}
    except ValueError:
        return parsed(text) if "=" in text else {}
    return value if isinstance(value, dict) else {}


def _limit(request: BaseRequest, stream_over: int) -> int:
    return 0 if request.content_type.startswith(_OPAQUE) and "Content-Type" in request.headers else stream_over


async def _drained(request: BaseRequest, keep: int) -> tuple[bytes, Upload | None]:
    """Read to the end, keeping the bytes unless they are more than *keep*."""
    kept, digest, size = bytearray(), hashlib.sha256(), 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        digest.update(chunk)
        if size <= keep:
            kept += chunk
        else:
            kept.clear()
    flood = Upload("", size, digest.hexdigest()) if size > keep else None
    return bytes(kept), flood


async def _multipart(request: BaseRequest) -> Body:
    body = Body()
    async for part in MultipartReader(request.headers, request.content):
        if isinstance(part, BodyPartReader):
            await _take(part, body)
    return body


async def _take(part: BodyPartReader, body: Body) -> None:
    name = part.name or ""
    if part.filename is None and not _is_opaque(part):
        raw = bytes(await part.read(decode=True))
        body.params[name] = raw.decode("utf-8", "replace")
        body.size += len(raw)
        return
    upload = await _uploaded(part)
    body.files[name] = upload
    body.size += upload.size


def _is_opaque(part: BodyPartReader) -> bool:
    return part.headers.get("Content-Type", "").startswith(_OPAQUE)


async def _uploaded(part: BodyPartReader) -> Upload:
    digest, size = hashlib.sha256(), 0
    while chunk := await part.read_chunk(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return Upload(part.filename or part.name or "", size, digest.hexdigest())
