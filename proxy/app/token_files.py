"""Reads and checks the token files that settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proxy.settings import Settings, value_of
from proxy.settings.load import SettingsError
from proxy.shell.files import TokenFileError, read_token

ADMIN = "admin_token_file"
OF_WEBHOOKS = ("webhooks.verify_token_file", "webhooks.secret_file")


def admin_token(settings: Settings) -> str:
    """Returns the token that callers of the admin listener need; "" for none. Raises SettingsError."""
    file = settings.admin_token_file
    if not isinstance(file, Path):
        return ""
    try:
        return read_token(file)
    except TokenFileError as error:
        raise SettingsError([f"{ADMIN}: {error}"]) from None


def token_file_problems(settings: Settings, *names: str) -> Iterator[str]:
    """Yields one line for each token file of the settings *names* that cannot be used."""
    for name in names:
        file = value_of(settings, name)
        try:
            if isinstance(file, Path):
                read_token(file)
        except TokenFileError as error:
            yield f"{name}: {error}"
