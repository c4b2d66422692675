"""Links the packages that a pin file names from this environment into another: `lending.py PINS [--target FOLDER]`.

Without a folder it is the environment whose `python` comes first on PATH, as it is for pip.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main(pins: str, _flag: str = "--target", folder: str = "") -> None:
    """Link all that the pinned packages brought, apart from their commands."""
    target = Path(folder or subprocess.check_output(["python", "-c", SITE], text=True).strip())
    target.mkdir(parents=True, exist_ok=True)
    for name in re.findall(r"^[\w.-]+", Path(pins).read_text(), re.MULTILINE):
        for top, home in _brought(name).items():
            if not (target / top).exists():
                (target / top).symlink_to(home / top)


def _brought(name: str) -> dict[str, Path]:
    """The names beside which a package put its modules, and where that is; none for one that other systems need."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return {}
    home = Path(str(package.locate_file("")))
    return {file.parts[0]: home for file in package.files or () if file.parts[0] not in {"..", "__pycache__"}}


if __name__ == "__main__":
    main(*sys.argv[1:])
