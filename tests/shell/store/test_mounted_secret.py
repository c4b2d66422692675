"""A key file in a mounted Kubernetes Secret: links and group read are accepted there, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.shell.store.key_file import KeyFileError, load_or_make_key

KEY = b"k" * 32


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A Secret as the kubelet mounts it, with `fsGroup`: its file named `key`."""
    folder = tmp_path / "mount"
    version = folder / "..2026_11_30_12_00_00.123"
    version.mkdir(parents=True)
    (version / "key").write_bytes(KEY)
    (version / "key").chmod(0o440)
    version.chmod(0o755)
    (folder / "..data").symlink_to(version.name)
    (folder / "key").symlink_to("..data/key")
    folder.chmod(0o1777)
    return folder / "key"


def test_a_mounted_secret_is_a_key_file(secret: Path) -> None:
    """Each replica of a fleet reads the same bytes."""
    assert load_or_make_key(secret) == KEY


def test_a_secret_that_is_changed_is_read_by_the_next_start(secret: Path) -> None:
    """The kubelet makes another version and renames the link to it."""
    newer = secret.parent / "..2026_11_30_13_00_00.456"
    newer.mkdir()
    (newer / "key").write_bytes(b"n" * 32)
    (newer / "key").chmod(0o440)
    (secret.parent / "..data_tmp").symlink_to(newer.name)
    (secret.parent / "..data_tmp").replace(secret.parent / "..data")
    assert load_or_make_key(secret) == b"n" * 32


def _relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _shorten(key: Path) -> None:
    key.chmod(0o600)
    key.write_bytes(b"short")
    key.chmod(0o440)


SPOILT: dict[str, Callable[[Path], None]] = {
    "others may read it": lambda key: key.chmod(0o444),
    "the group may write it": lambda key: key.chmod(0o460),
    "a link to elsewhere": lambda key: _relink(key, "../elsewhere"),
    "a version elsewhere": lambda key: _relink(key.parent / "..data", "../elsewhere"),
    "a version that is the parent": lambda key: _relink(key.parent / "..data", ".."),
    "a folder that others may change": lambda key: key.parent.chmod(0o777),
    "a version that others may change": lambda key: (key.parent / (key.parent / "..data").readlink()).chmod(0o777),
    "another length": _shorten,
}


@pytest.mark.parametrize("how", SPOILT)
def test_anything_else_is_refused(secret: Path, how: str) -> None:
    """Nothing but a Secret's own links and its group is let pass."""
    (secret.parent.parent / "elsewhere").write_bytes(KEY)
    SPOILT[how](secret)
    with pytest.raises(KeyFileError):
        load_or_make_key(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_group_that_is_not_ours_may_not_read_it(secret: Path) -> None:
    """What `fsGroup` gives is given to a group of this process."""
    os.chown(secret, -1, 54321)
    with pytest.raises(KeyFileError):
        load_or_make_key(secret)


def test_a_plain_file_that_the_group_may_read_is_refused_as_ever(tmp_path: Path) -> None:
    """Outside of a Secret nothing is loosened."""
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o440)
    with pytest.raises(KeyFileError):
        load_or_make_key(key)
