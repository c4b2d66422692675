import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.shell.store import KeyFileError, load_or_make_key

STARTER = """
import pathlib, sys
from proxy.shell.store import load_or_make_key
print(load_or_make_key(pathlib.Path(sys.argv[1])).hex())
"""


def test_the_first_start_makes_it_and_the_next_reads_it(tmp_path: Path) -> None:
    """One secret for an installation, in a file that only its user may read, in folders likewise."""
    path = tmp_path / "state" / "sidecar" / "key"
    first = load_or_make_key(path)
    assert len(first) == 32
    assert load_or_make_key(path) == first == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)} == {0o700}
    assert os.listdir(path.parent) == ["key"]  # noqa: PTH208 - names are what is compared


def test_starters_at_the_same_time_agree(tmp_path: Path) -> None:
    """Of several first starts at once, all go on with one secret."""
    command = [sys.executable, "-c", STARTER, str(tmp_path / "key")]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({starter.communicate()[0] for starter in starters}) == 1
    assert [starter.returncode for starter in starters] == [0, 0, 0]


def test_who_comes_second_takes_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears between looking and making is read, not replaced."""
    path, link = tmp_path / "key", os.link

    def slow_link(draft: Path, target: Path) -> None:
        path.write_bytes(b"o" * 32)
        path.chmod(0o600)
        link(draft, target)

    monkeypatch.setattr(os, "link", slow_link)
    assert load_or_make_key(path) == b"o" * 32
    assert os.listdir(tmp_path) == ["key"]  # noqa: PTH208 - see above


def test_no_path_is_a_secret_for_one_process() -> None:
    """Ephemeral secrets differ each time."""
    assert len({load_or_make_key(None) for _ in range(3)}) == 3


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    """A file that is no secret is not made one; the message names file and rule, and quotes nothing."""
    path = tmp_path / "key"
    path.write_bytes(b"Z" * size)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=rf"{path}.*has {size} bytes.*32 bytes") as caught:
        load_or_make_key(path)
    assert "ZZZ" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_mode_that_lets_others_in_is_refused(tmp_path: Path, mode: int) -> None:
    """A secret that group or others may use is none."""
    path = tmp_path / "key"
    path.write_bytes(b"Z" * 32)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}.*0600"):
        load_or_make_key(path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    """The path itself is the file: a link could be pointed elsewhere by others."""
    real = tmp_path / "real"
    load_or_make_key(real)
    (tmp_path / "key").symlink_to(real)
    with pytest.raises(KeyFileError, match="no link"):
        load_or_make_key(tmp_path / "key")


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    """Nothing is made where a link points."""
    (tmp_path / "key").symlink_to(tmp_path / "absent")
    with pytest.raises(KeyFileError):
        load_or_make_key(tmp_path / "key")
    assert not (tmp_path / "absent").exists()


def test_a_pipe_does_not_hang_the_start(tmp_path: Path) -> None:
    """What is not a plain file is refused at once."""
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        load_or_make_key(tmp_path / "key")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    """A directory of that name is told like any other mistake."""
    (tmp_path / "key").mkdir()
    with pytest.raises(KeyFileError):
        load_or_make_key(tmp_path / "key")


def test_a_place_where_nothing_can_be_made_is_told(tmp_path: Path) -> None:
    """A parent that is a file is the user's mistake, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="key file"):
        load_or_make_key(tmp_path / "file" / "key")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """A secret that another user can replace is none."""
    path = tmp_path / "key"
    load_or_make_key(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(KeyFileError, match="12345"):
        load_or_make_key(path)
