"""A message with a batch in a form, taken apart at the operations, of which none is decoded.

A form is decoded piece by piece, so the operations are those of the form that holds an empty array in their place. A
program sends the rest of such messages again and again, and each operation in many of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from proxy.core.client_batch.operation import Envelope
from proxy.core.client_batch.parse import MOST_PAIRS
from proxy.core.client_batch.split import MOST_OPERATIONS
from proxy.core.fast_path.head import find_length
from proxy.core.graph.errors import UNREADABLE
from proxy.core.reply.link_origin import LinkOrigin

_NAME, _OPEN, _CLOSE = b"batch=", b"%5B%7B", b"%7D%5D"
_COMMA = b"%7D%2C"
_BETWEEN = (b"%7D%2C%7B", b"%7D%2C+%7B", b"%7D%2C%20%7B")
"""What stands between two operations, as browsers and PHP, Python, and others write it."""

_LONGEST = 3 * MOST_PAIRS
"""Bytes of operations in which there may be so many parameters that the batch is not parsed."""

_array = msgspec.json.Decoder(list[msgspec.Raw])


class BatchForm(NamedTuple):
    """A message with a batch in a form."""

    frame: tuple[bytes, bytes]  # what stands before and behind the operations, without the length of the message
    operations: Sequence[bytes]  # as they stand in the form, without the braces around them
    empty: bytes  # a message with the same frame and no operations


class BatchFrame(NamedTuple):
    """What the frame of a batch says; its repr shows none of it, for it holds a token."""

    envelope: Envelope  # without the operations
    link_origin: LinkOrigin
    name: bytes  # of the reads in the table of heads

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the frame."""
        return "BatchFrame()"


def split_form(data: bytes) -> BatchForm | None:
    """Returns the parts of the message *data*; None where these are not found in the usual places."""
    found = find_length(data)
    if found is None:
        return None
    length, body = found
    name = data.find(_NAME + _OPEN, body)
    start = name + len(_NAME)
    stop = data.find(b"&", start)
    stop = len(data) if stop < 0 else stop
    text = data[start + len(_OPEN) : stop - len(_CLOSE)]
    is_named = name == body or (name > body and data[name - 1 : name] == b"&")
    is_form = data[body : body + 1].isalpha()  # and no JSON
    if not (is_form and is_named and data.endswith(_CLOSE, start, stop)) or len(text) > _LONGEST:
        return None
    if b"&" + _NAME in unquote_to_bytes(data[stop:]):  # of two values the last one counts
        return None
    comma = text.find(_COMMA)
    between = next((each for each in _BETWEEN if text.startswith(each, comma)), None)
    operations = [text] if between is None else text.split(between)
    if len(operations) > MOST_OPERATIONS:
        return None
    frame = data[: length.start] + data[length.stop : start], data[stop:]
    form = data[body:start] + b"%5B%5D" + data[stop:]
    head = b"%b\r\nContent-Length: %d%b" % (data[: length.start], len(form), data[length.stop : body])
    return BatchForm(frame, operations, head + form)


def decoded(operation: bytes) -> bytes | None:
    """Returns the JSON of an *operation* in a form; None if that is no whole object: the form was split wrongly."""
    text = b"{%b}" % unquote_to_bytes(operation.replace(b"+", b" "))
    try:
        found = _array.decode(b"[%b]" % text)
    except UNREADABLE:
        return None
    return text if len(found) == 1 and bytes(found[0]) == text else None
