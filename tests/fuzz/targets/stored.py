"""What is read from disk: rows, the databases themselves, purge orders, settings files and logs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.app import from_settings
from proxy.commands.replay.log_reader import LogReader
from proxy.commands.replay.report import described
from proxy.core.cache.encryption import BadSeal, Sealer
from proxy.core.cache.purge import Purges, read_order
from proxy.core.http.errors import BadRequest
from proxy.core.model import Entry, EntryMeta
from proxy.core.replay.replay import Replay
from proxy.settings import Settings
from proxy.settings.load import SettingsError, load
from proxy.shell.store.corruption import DISK_ERRORS
from proxy.shell.store.database import Database
from proxy.shell.store.purge_file import FILE_NAME
from proxy.shell.store.write_queue import QueuedWrite
from tests.fuzz.targets.target import Parse, Target

SEALER = Sealer(bytes(32))
KEY, TOKEN, NONCE = b"k" * 32, "token", bytes(12)
MIB = 2**20


def rows(data: bytes) -> None:
    """A row that somebody wrote into the database, and one that was sealed here with anything inside."""
    try:
        SEALER.unseal(KEY, TOKEN, data)
    except BadSeal:
        pass
    for sealer in (SEALER, Sealer(bytes(32), sealed=False)):
        cipher = sealer._cipher(TOKEN)
        blob = cipher.close(data, b"GSC2" + KEY, NONCE)
        try:
            entry = sealer.unseal(KEY, TOKEN, blob)
        except BadSeal:
            continue
        assert len(entry.body) < 2**32
        again = sealer.unseal(KEY, TOKEN, sealer.seal(KEY, TOKEN, entry, NONCE))
        assert (again.headers, again.body) == (entry.headers, entry.body)


def purge_orders(data: bytes) -> None:
    """An order of the operator, and those that an earlier run left."""
    purges = Purges()
    purges.load(data, 1000.0)
    purges.load(purges.save(), 1000.0)
    read_order(data)


def _entry(body: bytes) -> Entry:
    return Entry(EntryMeta('"e"', "batch", 1000.0, may_be_fresh=True, proofs=(b"",)), b"", body)


@contextmanager
def databases() -> Iterator[Parse]:
    """The files of a database, overwritten from a place on: what opens gives what was stored, or nothing."""
    with TemporaryDirectory() as folder:
        good, used = Path(folder, "good"), Path(folder, "used")
        database = Database(good, SEALER, 4 * MIB, 0)
        database.open()
        stored = [QueuedWrite(bytes([number]) * 32, TOKEN, _entry(b"%d" % number * 100)) for number in range(20)]
        database.write(stored, 1000.0)
        database.close()
        yield partial(_open_spoiled, good, used)


def _open_spoiled(good: Path, used: Path, data: bytes) -> None:
    shutil.rmtree(used, ignore_errors=True)
    shutil.copytree(good, used)
    names = [*sorted(each.name for each in good.iterdir() if each.is_file()), FILE_NAME]
    which, place, rest = data[:1] or b"\0", data[1:4], data[4:]
    file = used / names[which[0] % len(names)]
    old = file.read_bytes() if file.exists() else b""
    at = int.from_bytes(place, "big") % (len(old) + 1)
    cuts = bool(which[0] & 0x80)
    file.write_bytes(old[:at] + rest + (b"" if cuts else old[at + len(rest) :]))
    database = Database(used, SEALER, 4 * MIB, 0)
    try:
        database.open()
        database.saved_purges()
        for number, found in enumerate(database.read([(bytes([number]) * 32, TOKEN) for number in range(20)])):
            if isinstance(found, Entry):
                assert found.body == b"%d" % number * 100
            else:
                assert found is None or isinstance(found, (BadSeal, *DISK_ERRORS))
        database.write([QueuedWrite(b"n" * 32, TOKEN, _entry(b"new"))], 1000.0)
    except DISK_ERRORS:
        pass
    finally:
        database.close()


def _of_a_file(name: str, read: Callable[[Path], None]) -> Callable[[], AbstractContextManager[Parse]]:
    """Sets up a folder, and gives what writes its input to a file and reads that."""

    @contextmanager
    def begin() -> Iterator[Parse]:
        with TemporaryDirectory() as folder:
            file = Path(folder, name)

            def parse(data: bytes) -> None:
                file.write_bytes(data)
                read(file)

            yield parse

    return begin


def _replay(file: Path) -> None:
    """A log: it is read on behind a line that cannot be read, and what could be read is replayed and told."""
    settings = Settings()
    replay = Replay(
        from_settings.rules_of(settings), from_settings.stages(settings), from_settings.limits(settings), shared=True
    )
    log = LogReader(str(file))
    replay.play(log.lines())
    list(log.complaints())
    if replay.coverage.reads:
        described(replay)


def _load(file: Path) -> None:
    """A settings file: it is read, or refused in words."""
    load(file=file)


TARGETS = {
    "blobs": Target.of(rows),
    "purges": Target.of(purge_orders, BadRequest, ValueError),
    "databases": Target(databases, most_examples=200),
    "log": Target(_of_a_file("log", _replay), (SettingsError,)),
    "settings": Target(_of_a_file("settings.toml", _load), (SettingsError,)),
}
