"""JSONP: which `callback` names are taken, and a body as a call of that function, as Graph writes it.

A name that is no path of JavaScript identifiers is answered 400 (`checked_callback`); jQuery's placeholder `?` passes
through to Graph (`NO_CALLBACK`). `routing/classify` reads the name of a single read and `client_batch/parse` that of a
batch; `reply/render` and `client_batch/slots` wrap their bodies. A body that is no JSON, or whose content coding could
not be decoded here, is not wrapped. The fast path takes no read with a callback.
"""

from __future__ import annotations

import re

from proxy.core.http.errors import BadRequest

NO_CALLBACK = "?"
"""The placeholder that jQuery replaces by a function's name; where it stays, the read passes through to Graph."""

_CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*|\[\d{1,9}\])*\Z", re.ASCII)


def checked_callback(callback: str) -> str:
    """Returns *callback* unchanged. Raises BadRequest unless it is "" or a path of JavaScript identifiers."""
    if callback and not _CALLBACK.match(callback):
        raise BadRequest("callback must be a path of JavaScript identifiers, such as app.got or cb[0]")
    return callback


def jsonp(body: bytes, callback: str) -> bytes:
    """Returns *body* as a call of the function *callback*, as Graph writes JSONP."""
    return b"/**/ " + callback.encode() + b"(" + body + b");"
