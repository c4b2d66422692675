"""The door: `python -m proxy` is `graph-sidecar`."""

import sys

from proxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
