"""The door: `python -m proxy` is `graph-sidecar`."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is still being loaded ends as quietly as one later."""
    try:
        from proxy.cli import main as run
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
