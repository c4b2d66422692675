"""Files and folders as settings name them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from proxy.settings.section import NAME


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("must be a path")
    try:
        return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - Path has no lexical normal form
    except RuntimeError:
        raise ValueError("must be an absolute path, since this user has no home directory") from None


def _key_file(value: object) -> Path | str:
    return "ephemeral" if value == "ephemeral" else _path(value)


def _token_file(value: object) -> Path | str:
    return "" if value == "" else _path(value)


Folder = Annotated[Path, BeforeValidator(_path)]
TokenFile = Annotated[Path | Literal[""], BeforeValidator(_token_file)]
KeyFile = Annotated[Path | Literal["ephemeral"], BeforeValidator(_key_file)]


def user_folder(find: Callable[[str], Path]) -> Path:
    """This user's folder of ours, where *find* looks for it."""
    try:
        return find(NAME)
    except RuntimeError:
        return Path("~") / NAME  # which `_path` refuses with a line of its own, unless another is set


def real(path: Path) -> Path:
    """*path* past all links; unlike Path.resolve, realpath takes a loop of them calmly."""
    return Path(os.path.realpath(path))
