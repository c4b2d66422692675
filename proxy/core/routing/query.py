"""Parses and writes urlencoded parameters as Graph's PHP front end does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_letters, digits
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from proxy.core.http.request_head import ESCAPED_BYTES

Pairs = tuple[tuple[str, str], ...]

LIFTED = frozenset({"access_token", "appsecret_proof", "appsecret_time", "callback", "method"})
"""Parameters that name the caller or the form of the answer; they are not part of the query in the cache key."""

BATCHES = frozenset({"batch", "asyncbatch"})
"""Parameters that make a call a batch."""

_DECIDING = LIFTED | BATCHES

_NOT_ESCAPED = "-._~,:()/"
REFERENCE_OPEN = {"{": "}", "(": ")", "[": "]"}
REFERENCE_MARK = re.compile(r""""(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[,{}()\[\]"']""", re.DOTALL)
_KNOWN = f"{ascii_letters}{digits}_.~- {b''.join(mark for mark, _ in ESCAPED_BYTES).decode()}".encode()
_AS_PHP_NAMES = str.maketrans(" .[", "___")


def split_pairs(query: str) -> Pairs:
    """Returns the decoded parameters of a query or an urlencoded body, in their order."""
    return tuple(_split_pair(piece) for piece in query.split("&") if piece)


def join_pairs(pairs: Pairs) -> str:
    """Returns *pairs* as a query, always in the same spelling."""
    return "&".join(f"{_percent_encode(name)}={_percent_encode(value)}" for name, value in pairs)


def form(parameters: Mapping[str, str]) -> bytes:
    """Returns *parameters* as an urlencoded body."""
    return b"&".join([b"%b=%b" % (form_value(name), form_value(value)) for name, value in parameters.items()])


def form_value(text: str) -> bytes:
    """Returns *text* form-encoded; quick for long JSON, because each of its marks is replaced in one pass."""
    if text.isidentifier() and text.isascii():
        return text.encode()
    raw = text.encode("utf-8", "surrogateescape")
    if raw.translate(None, delete=_KNOWN):
        return quote_from_bytes(raw, safe="").encode()
    for mark, escaped in ESCAPED_BYTES:
        raw = raw.replace(mark, escaped)
    return raw.replace(b" ", b"+")


def _split_pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    return decode(name), decode(value)


def decode(text: str) -> str:
    """Returns *text* decoded from urlencoded form: a plus is a space, and escapes are bytes."""
    return unquote(text.replace("+", " "))


def unquote(text: str) -> str:
    """Returns *text* percent-decoded; bytes that are no UTF-8 become lone surrogates, so that none is lost."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _percent_encode(text: str) -> str:
    return quote(text, safe=_NOT_ESCAPED, errors="surrogateescape")


def odd_names(pairs: Pairs) -> str:
    """Returns `parameter-name` if PHP reads a name in another spelling as one of those that decide here."""
    odd = any(name not in _DECIDING and php_name(name) in _DECIDING for name, _ in pairs)
    return "parameter-name" if odd else ""


def php_name(name: str) -> str:
    """Returns the variable that PHP makes of a parameter's name: `.`, a space and an unclosed `[` become `_`.

    (main/php_variables.c: it ends at a NUL, spaces before it are dropped, `a[b]` is an element of `a`.)
    """
    plain = name.partition("\0")[0].lstrip(" ")
    root, _, element = plain.partition("[")
    return (root if "]" in element else plain).translate(_AS_PHP_NAMES)
