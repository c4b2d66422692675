"""`graph-sidecar cache`: counts, removes or checks entries, through the running sidecar or in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.commands.control import ControlError, Remote
from proxy.settings import Settings
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
    """Print whether all entries on disk are intact. Raises ControlError, SettingsError."""
    if remote := _running(settings):
        store = remote.ask("GET", "/stats")["store"]
        troubles = {name: store[name] for name in ("bad_rows", "disk_troubles", "quarantines") if store[name]}
        print(f"in use by {remote.at}, which verifies each entry that it opens; its disk is {_DISK[store['breaker']]}")
        if troubles or store["breaker"] == "open":
            raise ControlError(", ".join(f"{name} {count}" for name, count in troubles.items()) or "see its log")
        return
    found = _in_folder(lambda: inspect_folder(settings.cache.dir, thoroughly=True))
    _print_report(settings, found)
    _fail_if_wrong(found)
    print("all of it is whole")


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
