"""Resumable uploads: a session is opened, receives raw bytes, and reports how many it has ("Resumable Upload API")."""

from __future__ import annotations

import base64
from hashlib import md5
from typing import Any

from proxy.emulator.language.calls import Call
from proxy.emulator.language.errors import GraphError, bad_parameter, missing_object

PREFIX = "upload:"


class Uploads:
    """The open upload sessions, by their names without the part after `?`."""

    def __init__(self) -> None:
        """Start without sessions."""
        self._sizes: dict[str, int] = {}

    def clear(self) -> None:
        """Forget all."""
        self._sizes.clear()

    def open(self, call: Call) -> dict[str, Any]:
        """Open a session; its name ends in `=`, as base64 often does."""
        digest = md5(repr(sorted(call.params)).encode(), usedforsecurity=False).digest()
        name = PREFIX + base64.b64encode(digest).decode().replace("/", "_").replace("+", "-")
        self._sizes.setdefault(name, 0)
        return {"id": f"{name}?sig=emulated"}

    def is_about(self, call: Call) -> bool:
        """Returns whether the call is about a session."""
        return bool(call.path) and call.path[0].startswith(PREFIX)

    def answer(self, call: Call) -> dict[str, Any]:
        """Returns the state of the session, or the file's handle once bytes have come; the token is in the header."""
        name = call.path[0]
        if name not in self._sizes:
            raise missing_object(call.method, name)
        if "authorization" not in call.headers:
            raise GraphError("The access token must be in the Authorization header", code=1, challenge="invalid_token")
        if call.method == "GET":
            return {"id": f"{name}?sig=emulated", "file_offset": self._sizes[name]}
        if int(call.headers.get("file_offset", -1)) != self._sizes[name]:
            raise bad_parameter("file_offset does not match")
        self._sizes[name] += call.opaque.size if call.opaque else 0
        return {"h": f"4::{name.removeprefix(PREFIX)}:{self._sizes[name]}"}
