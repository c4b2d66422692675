"""Files that hold what has to be shown to us: a token, or the secret that somebody signs with."""

from __future__ import annotations

from pathlib import Path

from proxy.core.guarding import MIN_TOKEN


class TokenFileError(Exception):
    """The file cannot be used; the text says why, and not what is in it."""


def read_token(file: Path) -> str:
    """The token that *file* holds. Raises TokenFileError."""
    try:
        token = file.read_text("ascii").strip()
    except OSError as error:
        raise TokenFileError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise TokenFileError(f"{file}: must hold {MIN_TOKEN} or more letters, digits and signs on one line")
    return token
