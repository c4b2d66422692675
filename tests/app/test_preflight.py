"""What stands in the way of a start, told before it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from proxy.app.preflight import problems, warnings
from proxy.settings import Address, CacheSettings, Settings


def settings(tmp_path: Path, **cache: object) -> Settings:
    """Settings that fit this machine, but for what *cache* says."""
    folders = {"dir": str(tmp_path / "entries"), "key_file": str(tmp_path / "key")}
    return Settings(
        listen=Address("127.0.0.1", 0),
        admin=Address("127.0.0.1", 0),
        cache=CacheSettings.model_validate(folders | cache),
    )


def key(tmp_path: Path, content: bytes = bytes(32), mode: int = 0o600) -> None:
    """A key file as somebody left it."""
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(mode)


def test_a_new_machine_is_fine(tmp_path: Path) -> None:
    """Folders that can be made need not be there, and looking makes nothing."""
    assert problems(settings(tmp_path, dir=str(tmp_path / "a" / "b"), key_file=str(tmp_path / "c" / "key"))) == []
    assert list(tmp_path.iterdir()) == []


def test_a_good_key_is_fine(tmp_path: Path) -> None:
    """A key of the right size that nobody else may read is taken."""
    key(tmp_path, mode=0o400)
    assert problems(settings(tmp_path)) == []


def test_a_key_in_memory_needs_no_file(tmp_path: Path) -> None:
    """`ephemeral` asks nothing of the machine."""
    assert problems(settings(tmp_path, key_file="ephemeral")) == []


@pytest.mark.parametrize(
    "content, mode, told",
    [
        (bytes(31), 0o600, "it has 31 bytes"),
        (bytes(33), 0o600, "it has 33 bytes"),
        (bytes(32), 0o640, "its mode is 0640"),
    ],
)
def test_a_bad_key_is_refused(tmp_path: Path, content: bytes, mode: int, told: str) -> None:
    """A key that is cut, padded or public is told, in the words of the store that would refuse it."""
    key(tmp_path, content, mode)
    [line] = problems(settings(tmp_path))
    assert line.startswith(f"cache.key_file: key file {tmp_path / 'key'}: {told}; allowed is ")


def test_a_link_to_nowhere_is_no_new_key(tmp_path: Path) -> None:
    """What lies in the key's place is looked at, even if it leads nowhere."""
    (tmp_path / "key").symlink_to(tmp_path / "nowhere")
    [line] = problems(settings(tmp_path))
    assert line.startswith("cache.key_file: ")


def test_a_key_whose_folder_cannot_be_made(tmp_path: Path) -> None:
    """A new key needs somewhere to lie."""
    (tmp_path / "key").write_text("")
    assert problems(settings(tmp_path, key_file=str(tmp_path / "key" / "key"))) == [
        f"cache.key_file = {tmp_path / 'key'}: {tmp_path / 'key'} is not a folder"
    ]


def test_a_file_in_place_of_the_cache_folder(tmp_path: Path) -> None:
    """A folder cannot be made where a file lies."""
    (tmp_path / "entries").write_text("")
    assert problems(settings(tmp_path)) == [
        f"cache.dir = {tmp_path / 'entries'}: {tmp_path / 'entries'} is not a folder"
    ]


def test_a_cache_folder_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar starts without a disk; the warning names the folder that refuses."""
    key(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert problems(settings(tmp_path)) == []
    assert warnings(settings(tmp_path)) == [f"cache.dir = {tmp_path / 'entries'}: no right to write in {tmp_path}"]


def test_a_disk_that_does_not_answer_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at the folder waits for nobody: a start goes on without it."""
    key(tmp_path)
    answers = threading.Event()
    monkeypatch.setattr("proxy.app.preflight.DISK_ANSWERS_WITHIN_S", 0.01)
    monkeypatch.setattr("proxy.app.preflight._nearest", lambda _folder: answers.wait() and tmp_path)
    assert problems(settings(tmp_path)) == []
    assert warnings(settings(tmp_path)) == [f"cache.dir = {tmp_path / 'entries'}: its disk does not answer"]
    answers.set()


def test_a_folder_that_the_store_refuses_is_a_warning(tmp_path: Path) -> None:
    """`check` tells what serve would: a link, or a folder in which other things lie."""
    key(tmp_path)
    folder = tmp_path / "entries"
    folder.mkdir()
    assert warnings(settings(tmp_path)) == []
    (folder / "thesis.tex").write_text("")
    holds = f"cache.dir: {folder} holds other files ('thesis.tex'): the cache needs a folder of its own"
    assert warnings(settings(tmp_path)) == [holds]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    link = f"cache.dir: {folder} is not a folder: name the folder itself, not a link to it"
    assert warnings(settings(tmp_path)) == [link]
    assert problems(settings(tmp_path)) == []


def test_no_disk_needs_no_folder(tmp_path: Path) -> None:
    """Entries in memory alone ask nothing of the disk."""
    (tmp_path / "entries").write_text("")
    assert problems(settings(tmp_path, disk_mb=0)) == []


def test_a_path_too_long_is_one_line(tmp_path: Path) -> None:
    """What the system will not look at is told with its reason."""
    [line] = problems(settings(tmp_path, dir=str(tmp_path / ("x" * 300))))
    assert line.endswith("cannot be used: File name too long")


def test_taken_ports_are_both_told(tmp_path: Path) -> None:
    """Each listener that cannot listen has its line."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [server.getsockname()[1] for server in (first, second)]
        taken = settings(tmp_path).model_copy(
            update={"listen": Address("127.0.0.1", ports[0]), "admin": Address("127.0.0.1", ports[1])}
        )
        assert problems(taken) == [
            f"listen = 127.0.0.1:{ports[0]}: cannot listen there: Address already in use",
            f"admin = 127.0.0.1:{ports[1]}: cannot listen there: Address already in use",
        ]
