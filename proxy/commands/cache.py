"""`graph-sidecar cache`: counts, removes or checks entries, through the running sidecar or in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.commands.control import ControlError, Remote
from proxy.core.cache.encryption import Sealer
from proxy.settings import Settings
from proxy.settings.load import SettingsError
from proxy.shell.store import KeyFileError, load_or_make_key
from proxy.shell.store.inspect import FolderError, FolderReport, erase_folder, inspect_folder


def stats(settings: Settings) -> None:
    """Print how many entries there are. Raises ControlError, SettingsError."""
    if remote := _running(settings):
        for name, value in remote.ask("GET", "/stats")["store"].items():
            print(f"{name:<17} {value}")
        return
    found = _in_folder(lambda: inspect_folder(settings.cache.dir, thoroughly=False))
    _print_report(settings, found)
    _fail_if_wrong(found)


def verify(settings: Settings) -> None:
    """Print whether all entries on disk are intact and of this key. Raises ControlError, SettingsError."""
    if remote := _running(settings):
        store = remote.ask("GET", "/stats")["store"]
        troubles = {name: store[name] for name in ("bad_rows", "disk_troubles", "quarantines") if store[name]}
        print(f"in use by {remote.at}, which verifies each entry that it opens; its disk is {_DISK[store['breaker']]}")
        if store["other_key"]:
            raise ControlError("the entries on disk are not of its cache.key_file, none can be opened")
        if troubles or store["breaker"] == "open":
            raise ControlError(", ".join(f"{name} {count}" for name, count in troubles.items()) or "see its log")
        return
    sealer, why_not = _sealer(settings)
    found = _in_folder(lambda: inspect_folder(settings.cache.dir, thoroughly=True, sealer=sealer))
    _print_report(settings, found)
    _fail_if_wrong(found)
    if found.entries and why_not:
        print(f"whole as a database; which key they are of was not checked: cache.key_file {why_not}")
        return
    if found.unmarked:
        print(f"{found.unmarked} are of an older version, and do not show their key")
    print(f"all of it is whole, and {found.checked} entries are of this cache.key_file")


def _sealer(settings: Settings) -> tuple[Sealer | None, str]:
    """Returns what checks entries by the installation's secret, or None and why there is none. Raises SettingsError."""
    key_file = settings.cache.key_file
    if key_file == "ephemeral":
        return None, "is ephemeral"
    if not key_file.exists():
        return None, f"{key_file} is missing"
    try:
        return Sealer(load_or_make_key(key_file)), ""
    except KeyFileError as error:
        raise SettingsError([f"cache.key_file: {error}"]) from None


def purge(settings: Settings) -> None:
    """Remove all entries. Raises ControlError, SettingsError."""
    if remote := _running(settings):
        remote.ask("POST", "/purge", {"all": True})
        print(f"{remote.at} holds nothing any more")
        return
    found = _in_folder(lambda: erase_folder(settings.cache.dir))
    print(f"removed {found.entries} entries, {found.bytes / 1e6:.1f} MB, from {settings.cache.dir}")


WHAT: Mapping[str, Callable[[Settings], None]] = {"stats": stats, "verify": verify, "purge": purge}

_DISK = {"closed": "in use", "open": "out of use after trouble", "none": "none: it holds all in memory"}


def _running(settings: Settings) -> Remote | None:
    """Returns the running sidecar of these settings, None if it does not run."""
    remote = Remote(settings) if settings.admin.port else None
    return remote if remote and remote.is_there() else None


def _in_folder(work: Callable[[], FolderReport]) -> FolderReport:
    try:
        return work()
    except FolderError as error:
        raise ControlError(str(error)) from None


def _print_report(settings: Settings, found: FolderReport) -> None:
    print(f"{found.entries} entries, {found.bytes / 1e6:.1f} MB, in {settings.cache.dir}")


def _fail_if_wrong(found: FolderReport) -> None:
    if found.problems:
        raise ControlError("; ".join(found.problems))
