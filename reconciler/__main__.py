"""`reconciler`, and `python -m reconciler`. Tells its version before anything is loaded: scripts ask for it often."""

import os
import sys

from reconciler import __version__


def main() -> None:
    """The console script."""
    if sys.argv[1:] in (["--version"], ["-V"]) and _told(f"reconciler {__version__}\n"):
        return
    from reconciler.adapters import cli

    cli.main()


def _told(line: str) -> bool:
    """False where nobody can be told: the front door knows how that ends."""
    try:
        return os.write(1, line.encode()) == len(line)
    except OSError:
        return False


if __name__ == "__main__":
    main()
