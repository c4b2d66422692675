"""The version that runs."""

from importlib import metadata

from proxy.settings import NAME


def version() -> str:
    """As it was installed; a checkout runs without one."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "not installed"
